"""The quick look for signs of a secret never lets one through."""

import re

from errand_common import redaction
from errand_common.redaction import MASK, redacted_text
from hypothesis import example, given
from hypothesis import strategies as st

# Letters that mean the same to a pattern which ignores case: long s, Kelvin, dotted and dotless i.
_PIECES = (
    "errand_ab12_", "0123456789abcdef", "eyJ", "abcdefghijkl", ".", "sk-", "hf_", "Bearer ", "jo@example", "@",
    "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "://", ":", "password=", "api_key=", "token=", "x",
    " ", "\u017f", "\u212a", "\u0130", "\u0131", "k", "s", "-",
)  # fmt: skip


@given(st.lists(st.sampled_from(_PIECES), max_size=8).map("".join), st.sampled_from([str, str.upper, str.lower]))
@example("\u017f\u212a-0123456789abcdef0123", str)
@example("bearer x", str.upper)
def test_masked_is_what_the_patterns_find(text: str, case: type) -> None:
    told = case(text)
    assert redacted_text(told) == re.sub(redaction._SECRET_TEXT, MASK, told)
