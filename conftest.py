"""Fixtures of errand_common for every test of the project."""

pytest_plugins = ["errand_common.testing.plugin"]
