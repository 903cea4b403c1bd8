"""Fixtures of errand_common for every test of the project, and how tests are spread over processes."""

import pytest

pytest_plugins = ["errand_common.testing.plugin"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests share a process, and so what its fixtures start; all end-to-end tests share one suite.

    They come first, as no other group takes as long. First of all hooks: pytest-xdist reads the groups in its own.
    """
    items.sort(key=lambda item: item.get_closest_marker("e2e") is None)
    for item in items:
        group = "e2e" if item.get_closest_marker("e2e") else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
