"""Versions as entity tags."""

import re
from typing import Annotated, Final

from errand_common.errors import InvalidArgument
from fastapi import Header

_TAG: Final = re.compile(r'^(?:W/)?"v?(\d{1,9})"$')

IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        description="The ETag you have seen; another version in place is a 412. `*` takes any.",
        examples=['"3"'],
    ),
]


def etag(version: int) -> str:
    """The entity tag of a version."""
    return f'"{version}"'


def expected_version(if_match: str | None) -> int:
    """The version a caller expects, 0 for any; raises InvalidArgument for what is no tag of ours."""
    if if_match is None or if_match.strip() == "*":
        return 0
    match = _TAG.match(if_match.strip())
    if match is None or int(match[1]) == 0:
        raise InvalidArgument('send the ETag of the last answer, such as "3"', field="If-Match")
    return int(match[1])
