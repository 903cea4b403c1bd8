"""Fields of people that several bodies share."""

from typing import Annotated

from pydantic import AfterValidator, Field

from errand_gateway.transport.fields import Text


def _lower(text: str) -> str:
    return text.lower()


Email = Annotated[
    Text,
    Field(min_length=3, max_length=254, pattern=r"^[^@\s]{1,64}@[^@\s]{1,253}$", examples=["ada@example.com"]),
    AfterValidator(_lower),
]
NewPassword = Annotated[
    Text, Field(min_length=12, max_length=256, description="At least 12 characters; longer is better than stranger.")
]
