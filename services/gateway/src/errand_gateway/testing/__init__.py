"""Fake backends for tests, served over real gRPC."""
