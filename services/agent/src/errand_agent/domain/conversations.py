"""Conversations and their messages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

_LONGEST_TITLE = 80


class Role(StrEnum):
    """Who wrote a message."""

    USER = "USER"
    ASSISTANT = "ASSISTANT"


@dataclass(frozen=True, slots=True)
class Message:
    """One message; `run_id` is the run that answers it, or that it is the answer of."""

    id: str
    role: Role
    text: str
    run_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation of one principal with one agent."""

    id: str
    tenant_id: str
    principal_id: str
    title: str
    agent: str
    message_count: int
    created_at: datetime
    updated_at: datetime
    archived: bool = False


def title_of(message: str) -> str:
    """A title from a conversation's first message: its first line, cut at a word."""
    line = message.strip().splitlines()[0].strip() if message.strip() else ""
    if len(line) <= _LONGEST_TITLE:
        return line
    return line[:_LONGEST_TITLE].rsplit(" ", 1)[0] + " …"
