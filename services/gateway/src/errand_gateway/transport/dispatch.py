"""Which route answers a request, found without trying all of them one by one."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

_PREFIX_PARTS: Final = 3


class RouteIndex(BaseRoute):
    """Routes by the fixed beginning of their paths.

    The framework compares a request with one route after the other; with some hundred routes that costs
    more than most requests do. Of routes with the same beginning the first that matches answers, as ever.
    """

    def __init__(self, routes: Sequence[APIRoute]) -> None:
        self._fixed: dict[str, list[APIRoute]] = defaultdict(list)
        self._rest: dict[tuple[str, ...], list[APIRoute]] = defaultdict(list)
        for route in routes:
            if "{" not in route.path:
                self._fixed[route.path].append(route)
            self._rest[_beginning(route.path)].append(route)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """The route that answers; none when no route takes both path and method."""
        if scope["type"] == "http":
            path = scope["path"]
            for route in self._fixed.get(path) or self._candidates(path):
                match, found = route.matches(scope)
                if match is Match.FULL:
                    return match, found
        return Match.NONE, {}

    def _candidates(self, path: str) -> list[APIRoute]:
        parts = path.split("/")[1 : 1 + _PREFIX_PARTS]
        found: list[APIRoute] = []
        for length in range(len(parts), -1, -1):
            found += self._rest.get(tuple(parts[:length]), ())
        return found

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets the route answer that `matches` found."""
        await scope["route"].handle(scope, receive, send)


def _beginning(path: str) -> tuple[str, ...]:
    """The fixed parts that a path begins with, at most three."""
    fixed, _, _ = path.partition("{")
    parts = fixed.split("/")[1:]
    # What stands before a parameter in the same part says nothing of where that part ends.
    whole = parts if fixed == path else parts[:-1]
    return tuple(whole[:_PREFIX_PARTS])


def add_routes(app: FastAPI, routes: Sequence[APIRoute]) -> None:
    """Adds the routes behind an index; requests that no route takes come to the routes themselves."""
    app.router.routes.append(RouteIndex(routes))
    app.router.routes.extend(routes)
