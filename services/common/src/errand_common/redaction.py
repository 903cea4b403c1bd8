"""Keeps secrets out of what is logged or shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MASK = "***"
_SECRET_KEYS = re.compile(
    r"authorization|api[-_]?key|password|passwd|secret|token$|pepper|credential|cookie|private[-_]?key",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    r"errand_[A-Za-z0-9]{4,}_[A-Za-z0-9_-]{16,}"  # API keys of this suite
    r"|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}"  # JSON web tokens
    r"|\b(?:sk-|hf_)[A-Za-z0-9_-]{16,}"  # keys of model providers
    r"|Bearer\s+\S+"
    r"|[\w.+-]+@[\w-]+\.[\w.-]+"  # e-mail addresses of people
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----"
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"  # user and password of a URL
    r"|(?<=password=)[^\s&,;]+|(?<=api_key=)[^\s&,;]+|(?<=token=)[^\s&,;]+",
    re.IGNORECASE | re.DOTALL,
)
# Each secret's text holds one of these: most texts hold none, and are told so in a tenth of the time.
_SECRET_SIGNS = ("@", "=", "errand_", "eyj", "sk-", "hf_", "bearer", "-----")
# A value that holds itself would be walked for ever.
_DEEPEST = 8


def redacted(key: str, value: Any, *, depth: int = 0) -> Any:
    """The value with everything secret replaced, ready to be written as JSON."""
    if value is None or isinstance(value, bool):
        return value
    if _SECRET_KEYS.search(key):
        return MASK
    if isinstance(value, int | float):
        return value
    if isinstance(value, Mapping) and depth < _DEEPEST:
        return {str(inner): redacted(str(inner), item, depth=depth + 1) for inner, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth < _DEEPEST:
        return [redacted(key, item, depth=depth + 1) for item in value]
    return redacted_text(value if isinstance(value, str) else repr(value))


def redacted_text(text: str) -> str:
    """The text with everything in it masked that looks like a key, a token, a password or an e-mail address."""
    # As patterns that ignore case do, casefold makes one letter of all forms of K and S.
    folded = text.casefold()
    for sign in _SECRET_SIGNS:
        if sign in folded:
            return _SECRET_TEXT.sub(MASK, text)
    return text
