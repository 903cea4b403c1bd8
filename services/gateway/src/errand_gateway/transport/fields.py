"""Types of fields that many bodies and paths share."""

import re
from collections.abc import Callable
from typing import Annotated, Any

import orjson
from fastapi import Depends, Header, Path, Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from errand_gateway.domain.resources import PageQuery


def _sendable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain NUL characters")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("must not contain halves of surrogate pairs") from error
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty or blank")
    return text


Text = Annotated[str, AfterValidator(_sendable)]
"""Text that every store and service can hold: Unicode with no NUL and no lone surrogates."""

SpokenText = Annotated[Text, AfterValidator(_not_blank)]
"""Text that says something."""

ResourceId = Annotated[
    str, Path(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$", examples=["run_0190c0ffee"])
]
ResourceName = Annotated[str, Path(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._-]+$", examples=["default"])]
"""Ids and names as paths carry them."""

ID_PATTERN = r"^[A-Za-z0-9._-]*$"
PROJECT_PATTERN = re.compile(r"^[A-Za-z0-9._-]{1,64}$")


def bounded_json(max_bytes: int) -> Callable[[Any], Any]:
    """A validator of JSON values: at most so many bytes as text, nothing that JSON cannot say."""

    def check(value: Any) -> Any:
        try:
            size = len(orjson.dumps(value))
        except (TypeError, orjson.JSONEncodeError) as error:
            raise ValueError("cannot be written as JSON in UTF-8") from error
        if size > max_bytes:
            raise ValueError(f"is {size} bytes as JSON; at most {max_bytes} are allowed")
        return value

    return check


class Body(BaseModel):
    """Base of request bodies: unknown fields are refused, nothing is coerced from other types."""

    model_config = ConfigDict(extra="forbid")


async def _page(
    page_size: Annotated[int, Query(ge=1, le=200, description="Rows wanted.")] = 50,
    page_token: Annotated[str, Query(max_length=1024, description="`next_page_token` of the page before.")] = "",
) -> PageQuery:
    return PageQuery(page_size, page_token)


PageDep = Annotated[PageQuery, Depends(_page)]

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=128,
        pattern=r"^[\x21-\x7e]+$",
        description="Your own key for this request: sent again, it gives the same run.",
    ),
]

__all__ = [
    "ID_PATTERN",
    "PROJECT_PATTERN",
    "Body",
    "Field",
    "IdempotencyKey",
    "PageDep",
    "ResourceId",
    "ResourceName",
    "SpokenText",
    "Text",
    "bounded_json",
]
