"""Native commands only inside bubblewrap: no network, no files but the system's programs, no other processes."""

from collections.abc import Sequence
from pathlib import PurePath

PROGRAM = "bwrap"
_NO_NETWORK = frozenset({"--unshare-all", "--unshare-net"})
# What programs need to start: nothing of it is a secret, and nothing can be written.
_SYSTEM = ("/usr", "/opt", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives", "/etc/ld.so.cache")
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8"}  # noqa: S108  its own


def confined(command: Sequence[str]) -> tuple[str, ...]:
    """The command line inside bubblewrap; one that begins with bwrap is the operator's own, and stays.

    Raises ValueError for one of these that keeps the network.
    """
    if PurePath(command[0]).name != PROGRAM:
        return (*_wrapping(), "--", *command)
    if _NO_NETWORK.isdisjoint(command) or "--share-net" in command:
        raise ValueError("its bwrap must have --unshare-all or --unshare-net, and no --share-net")
    return tuple(command)


def _wrapping() -> tuple[str, ...]:
    seen = [argument for path in _SYSTEM for argument in ("--ro-bind-try", path, path)]
    environment = [argument for name, value in _ENVIRONMENT.items() for argument in ("--setenv", name, value)]
    return (
        PROGRAM,
        "--unshare-all",
        "--die-with-parent",
        # Else it could type into the terminal that the service was started from.
        "--new-session",
        *("--cap-drop", "ALL"),
        "--clearenv",
        *environment,
        *seen,
        *("--proc", "/proc"),
        *("--dev", "/dev"),
        *("--tmpfs", "/tmp"),  # noqa: S108  of the sandbox
        *("--chdir", "/tmp"),  # noqa: S108  of the sandbox
    )
