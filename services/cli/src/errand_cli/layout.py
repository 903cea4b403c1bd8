"""Where a suite on one machine keeps its things: one data directory, secrets readable by its owner."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errand_common.tokens import TokenSigner, generate_signing_key

DEFAULT_FOLDER = Path(".errand")


class LaunchError(Exception):
    """Why the suite cannot be started or found; one line that names the cure."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The data directory of one suite."""

    root: Path

    @classmethod
    def of(cls, folder: Path | None) -> Layout:
        """The folder given, else $ERRAND_DATA_DIR, else ./.errand."""
        return cls(Path(folder or os.environ.get("ERRAND_DATA_DIR") or DEFAULT_FOLDER).absolute())

    @property
    def signing_key(self) -> Path:
        return self.root / "keys" / "signing.pem"

    @property
    def jwks(self) -> Path:
        return self.root / "keys" / "jwks.json"

    @property
    def admin_key(self) -> Path:
        return self.root / "keys" / "admin.key"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def state_file(self) -> Path:
        return self.root / "state.json"

    def prepare(self) -> bool:
        """Makes folders and secrets that are missing; true when the admin key is new."""
        for folder in (self.root, self.signing_key.parent, self.logs):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.signing_key.exists():
            write_secret(self.signing_key, generate_signing_key())
        signer = TokenSigner.from_pem(self.signing_key.read_bytes(), issuer="errand-gateway")
        self.jwks.write_text(json.dumps(signer.jwks()), encoding="utf-8")
        if self.admin_key.exists():
            return False
        write_secret(self.admin_key, f"errand_{secrets.token_hex(6)}_{secrets.token_hex(32)}".encode())
        return True

    def read_admin_key(self) -> str:
        """Raises LaunchError when no suite was started here yet."""
        try:
            return self.admin_key.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            raise LaunchError(f"No suite was started in {self.root} yet; run `errand up`.") from None

    def read_state(self) -> dict[str, Any]:
        """What the running supervisor last wrote; raises LaunchError when none runs."""
        try:
            state: dict[str, Any] = json.loads(self.state_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise LaunchError(f"No suite runs in {self.root}; run `errand up`.") from None
        if not is_alive(int(state["pid"])):
            raise LaunchError(f"The suite in {self.root} has ended; run `errand up`.")
        return state

    def write_state(self, state: dict[str, Any]) -> None:
        """Replaces the state file whole."""
        unfinished = self.state_file.with_suffix(".part")
        write_secret(unfinished, json.dumps(state, indent=2).encode())
        os.replace(unfinished, self.state_file)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One supervisor a data directory; raises LaunchError when another has it."""
        with (self.root / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LaunchError(f"A suite runs in {self.root} already; `errand status` shows it.") from None
            yield


def write_secret(path: Path, content: bytes) -> None:
    """Writes a file that only its owner may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def is_alive(pid: int) -> bool:
    """Whether a process of that id runs (a zombie does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
