"""LangGraph's part of `make bench-agent`, run by its own environment: the same steps with its own saver.

Usage: agent_peer.py DATABASE RUNS; a path is SQLite, a URL Postgres. Prints milliseconds of each run as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import AbstractAsyncContextManager
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph

ACTS = 3


class State(TypedDict):
    """What the graph carries."""

    turns: list[str]
    acts: int


def think(state: State) -> dict[str, Any]:
    """A model's turn that takes no time."""
    return {"turns": [*state["turns"], "thought"]}


def act(state: State) -> dict[str, Any]:
    """A tool's call that takes no time."""
    return {"turns": [*state["turns"], "result"], "acts": state["acts"] + 1}


def saver(database: str) -> AbstractAsyncContextManager[Any]:
    """LangGraph's own saver for the database."""
    if database.startswith("postgresql"):
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver  # noqa: PLC0415 - one of the two

        return AsyncPostgresSaver.from_conn_string(database)
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver  # noqa: PLC0415 - one of the two

    return AsyncSqliteSaver.from_conn_string(database)


async def main(database: str, runs: int) -> None:
    """Runs one after another; the first one warms up."""
    graph = StateGraph(State)
    graph.add_node("think", think)
    graph.add_node("act", act)
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", lambda state: "act" if state["acts"] < ACTS else END)
    graph.add_edge("act", "think")
    took = []
    async with saver(database) as checkpoints:
        await checkpoints.setup()
        compiled = graph.compile(checkpointer=checkpoints)
        for number in range(runs + 1):
            began = time.perf_counter()
            # "sync": a step is stored before the next begins, as in the agent service.
            await compiled.ainvoke(
                {"turns": ["question"], "acts": 0}, {"configurable": {"thread_id": str(number)}}, durability="sync"
            )
            took.append(1000 * (time.perf_counter() - began))
    print(json.dumps(took[1:]))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
