"""Python in a sandbox: pydantic-monty, an interpreter of its own in worker processes.

It has no file system, network, environment or imports of the host; code, memory, recursion, time
and output are bounded. A worker that dies is replaced, and the process here is never at risk.
"""

import re
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import MappingProxyType
from typing import Any, Final

from pydantic_monty import (
    AsyncMonty,
    CollectString,
    MontyCrashedError,
    MontyError,
    MontyRuntimeError,
    MontySyntaxError,
    ResourceLimits,
)

from errand_tools.domain.tools import JsonObject, ToolFailed, ToolTimedOut

MEMORY_BYTES: Final = 64 * 1024 * 1024
STDOUT_BYTES: Final = 64 * 1024
CODE_CHARACTERS: Final = 100_000
RECURSION_DEPTH: Final = 200
# The interpreter stops itself; this long after it, the pool kills its process.
_GRACE_SECONDS: Final = 0.5
NO_INPUTS: Final[Mapping[str, Any]] = MappingProxyType({})
_END: Final = "KeyboardInterrupt"
_FENCE = re.compile(r"^\s*```[\w+-]*\n(.*?)\n?```\s*$", re.DOTALL)


class MontySandbox:
    """A pool of sandbox processes; an asynchronous context manager."""

    def __init__(self, *, processes: int = 2, checkout_seconds: float = 5.0) -> None:
        self._processes = processes
        self._checkout_seconds = checkout_seconds
        self._pool: AsyncMonty | None = None
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> "MontySandbox":
        pool = AsyncMonty(
            min_processes=1,
            max_processes=self._processes,
            checkout_timeout=self._checkout_seconds,
            max_checkouts_per_worker=200,
            feed_duration_limit_grace=_GRACE_SECONDS,
        )
        self._pool = await self._exit.enter_async_context(pool)
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._pool = None
        await self._exit.aclose()

    async def run(self, code: str, timeout_seconds: float, inputs: Mapping[str, Any] = NO_INPUTS) -> JsonObject:
        """The last expression's value and what was printed; `inputs` are variables of the code.

        Raises ToolFailed for code that fails, ToolTimedOut for code that does not end.
        """
        printed = CollectString(max_bytes=STDOUT_BYTES)
        value = await self._feed(_unfenced(code), timeout_seconds, printed, dict(inputs))
        return {"result": value, "stdout": printed.output}

    async def check(self, code: str) -> None:
        """Reads the code and runs nothing of it. Raises ToolFailed for code that cannot be read."""
        try:
            # All is read before the first line runs, and the first line is the end.
            await self._feed(f"raise {_END}\n{_unfenced(code)}", 1.0, CollectString(max_bytes=0), {})
        except ToolFailed as error:
            if not error.message.startswith(_END):
                raise

    async def _feed(self, code: str, timeout_seconds: float, printed: CollectString, inputs: JsonObject) -> Any:
        pool = self._pool
        if pool is None:
            raise ToolFailed("The Python sandbox is not running.")
        if len(code) > CODE_CHARACTERS:
            raise ToolFailed(f"The code is longer than {CODE_CHARACTERS} characters.")
        try:
            checkout = pool.checkout(
                limits=_limits(timeout_seconds),
                # A sleep would hold a process for nothing; its clock is not the limit's.
                os_policy={"sleep": "zero"},
            )
            async with checkout as session:
                return await session.feed_run(code, inputs=inputs, print_callback=printed)
        except MontySyntaxError as error:
            raise ToolFailed(f"The code cannot be read: {_first_line(error)}.") from None
        except MontyRuntimeError as error:
            raise _runtime_failure(error, timeout_seconds) from None
        except MontyCrashedError as error:
            raise _crash(error, timeout_seconds) from None
        except MontyError:
            raise ToolFailed("The code uses something the sandbox does not offer.") from None
        except TimeoutError:
            raise ToolFailed("All sandboxes are busy; try again later.") from None
        except ValueError:
            raise ToolFailed("The code's result is too large to return; print a part of it.") from (None)


def _limits(timeout_seconds: float) -> ResourceLimits:
    return {
        "max_feed_duration_secs": timeout_seconds,
        "max_memory": MEMORY_BYTES,
        "max_recursion_depth": RECURSION_DEPTH,
        "max_suspensions": 1_000,
    }


def _unfenced(code: str) -> str:
    """Models like to send code as a Markdown block."""
    match = _FENCE.match(code)
    return match[1] if match else code


def _first_line(error: MontySyntaxError | MontyRuntimeError) -> str:
    return error.display("type-msg").strip().splitlines()[0][:300].rstrip(".")


def _runtime_failure(error: MontyRuntimeError, timeout_seconds: float) -> Exception:
    message = _first_line(error)
    if message.startswith("TimeoutError: feed time limit"):
        return _timed_out(timeout_seconds)
    if message.startswith("MemoryError"):
        return ToolFailed("The code needs more memory or prints more than the sandbox allows.")
    frames = error.traceback()
    line = f" (line {frames[-1].line})" if frames else ""
    return ToolFailed(f"{message}{line}.")


def _crash(error: MontyCrashedError, timeout_seconds: float) -> Exception:
    if error.timed_out:
        return _timed_out(timeout_seconds)
    return ToolFailed("The code broke the limits of the sandbox and was stopped.")


def _timed_out(timeout_seconds: float) -> ToolTimedOut:
    return ToolTimedOut(f"The code ran longer than {timeout_seconds:g} seconds and was stopped.")
