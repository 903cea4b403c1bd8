"""Fakes and fixtures for tests, shipped like all other code."""
