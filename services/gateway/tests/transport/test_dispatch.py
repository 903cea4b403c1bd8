"""Routes are found by their index as they would be one by one, and none waits for a thread."""

import inspect
from collections.abc import Iterator
from typing import Any

from errand_gateway.testing.gateway import RunningGateway
from errand_gateway.transport.dispatch import RouteIndex
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import Match


def scopes(routes: list[APIRoute]) -> Iterator[dict[str, Any]]:
    """A request for every method of every route, parameters filled with a name."""
    for route in routes:
        path = route.path
        for name in route.param_convertors:
            path = path.replace("{" + name + "}", "some-id").replace("{" + name + ":path}", "some/id")
        for method in route.methods or ():
            yield {"type": "http", "method": method, "path": path, "headers": [], "root_path": ""}


async def test_the_index_finds_what_a_search_finds(gateway: RunningGateway) -> None:
    routes = [route for route in gateway.app.routes if isinstance(route, APIRoute)]
    index = next(route for route in gateway.app.routes if isinstance(route, RouteIndex))
    for scope in scopes(routes):
        match, found = index.matches(dict(scope))
        assert match is Match.FULL, scope["path"]
        assert found["route"].methods & {scope["method"]}
        by_search = next(route for route in routes if route.matches(dict(scope))[0] is Match.FULL)
        assert found["route"].path == by_search.path
    assert index.matches({"type": "http", "method": "GET", "path": "/api/v1/nothing/here"})[0] is Match.NONE


async def test_no_dependency_waits_for_a_thread(gateway: RunningGateway) -> None:
    def calls(dependant: Dependant) -> Iterator[Any]:
        for child in dependant.dependencies:
            yield child.call
            yield from calls(child)

    for route in gateway.app.routes:
        if isinstance(route, APIRoute):
            for call in (route.endpoint, *calls(route.dependant)):
                asked = call if inspect.isroutine(call) else call.__call__
                assert inspect.iscoroutinefunction(asked) or inspect.isasyncgenfunction(asked), (route.path, call)
