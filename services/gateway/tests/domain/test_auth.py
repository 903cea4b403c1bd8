"""Keys, authentication and its cache."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from errand_common.errors import PermissionDenied, Unauthenticated
from errand_gateway.domain.admin import NewKey, make_key
from errand_gateway.domain.auth import Authenticator, Credential, TenantState
from errand_gateway.domain.keys import Pepper, new_key, parse_key
from errand_gateway.domain.recent import Recent

NOW = datetime.now(UTC)
PEPPER = Pepper("pepper")
KEY, TEXT = make_key(
    NewKey("one", "k", frozenset({"user"}), frozenset({"chat"}), None), PEPPER, key_id="key_1", now=NOW
)


class OneKey:
    """Holds one key and counts questions."""

    def __init__(self, credential: Credential) -> None:
        self.credential: Credential | None = credential
        self.asked = 0

    async def find(self, prefix: str) -> Credential | None:
        self.asked += 1
        found = self.credential
        return found if found is not None and found.key.prefix == prefix else None


GOOD = Credential(KEY, TenantState.ACTIVE)


async def test_key_gives_its_principal() -> None:
    principal = (await Authenticator(OneKey(GOOD), PEPPER).authenticate(TEXT, request_id="req")).principal
    assert (principal.tenant_id, principal.id, principal.roles) == ("one", KEY.id, frozenset({"user"}))


@pytest.mark.parametrize(
    ("credential", "text", "error"),
    [
        (GOOD, None, Unauthenticated),
        (GOOD, TEXT[:-1] + ("0" if TEXT[-1] != "0" else "1"), Unauthenticated),
        (GOOD, new_key(), Unauthenticated),
        (replace(GOOD, key=replace(KEY, expires_at=NOW - timedelta(seconds=1))), TEXT, Unauthenticated),
        (replace(GOOD, key=replace(KEY, revoked_at=NOW)), TEXT, Unauthenticated),
        (replace(GOOD, tenant_state=TenantState.SUSPENDED), TEXT, PermissionDenied),
    ],
    ids=["none", "wrong", "unknown", "expired", "revoked", "suspended"],
)
async def test_unusable_key_is_refused(credential: Credential, text: str | None, error: type[Exception]) -> None:
    with pytest.raises(error):
        await Authenticator(OneKey(credential), PEPPER).authenticate(text, request_id="req")


async def test_digest_is_worthless_under_another_pepper() -> None:
    with pytest.raises(Unauthenticated):
        await Authenticator(OneKey(GOOD), Pepper("other")).authenticate(TEXT, request_id="req")


async def test_cache_asks_once_and_forgets_when_told() -> None:
    store = OneKey(GOOD)
    cache = Recent(store.find)
    for _ in range(3):
        assert await cache.find(KEY.prefix) == GOOD
    assert store.asked == 1
    store.credential = None
    cache.forget()
    assert await cache.find(KEY.prefix) is None


def test_key_text_never_shows_its_secret() -> None:
    parts = parse_key(TEXT)
    assert parts is not None
    assert parts.secret not in repr(parts)
