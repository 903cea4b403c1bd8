"""Secrets are sealed, sent to their hosts alone, and never told."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from cryptography.fernet import Fernet
from errand_common.db import utc_now
from errand_common.errors import Conflict, ErrandError, InvalidArgument, NotFound, PermissionDenied, Unsupported
from errand_common.testing.keys import principal
from errand_tools.domain.secrets import MAX_SECRETS, Credentials, SecretBook
from errand_tools.domain.tokens import AccessTokens
from errand_tools.domain.tools import AuthScheme, HttpAuth, ToolDenied, ToolFailed
from errand_tools.storage.secrets import FernetCipher
from errand_tools.testing import InMemorySecretStore, ScriptedTokenSource, secret_book

ADMIN = principal("t1")
VALUE = "s3cr3t-value"
URL = "https://api.example/v1"
BEARER = HttpAuth(AuthScheme.BEARER, "key")


@pytest.fixture
async def book() -> SecretBook:
    book = secret_book()
    await book.put(ADMIN, "key", VALUE, ("API.example",))
    return book


@pytest.mark.parametrize(
    ("auth", "headers"),
    [
        (BEARER, {"authorization": f"Bearer {VALUE}"}),
        (HttpAuth(AuthScheme.BASIC, "key"), {"authorization": "Basic czNjcjN0LXZhbHVl"}),
        (HttpAuth(AuthScheme.HEADER, "key", "X-Api-Key"), {"X-Api-Key": VALUE}),
    ],
)
async def test_each_scheme_has_its_header(book: SecretBook, auth: HttpAuth, headers: dict[str, str]) -> None:
    assert (await book.credentials("t1", auth, URL)).headers == headers


async def test_no_authentication_sends_nothing(book: SecretBook) -> None:
    assert (await book.credentials("t1", None, URL)).headers == {}


@pytest.mark.parametrize(
    ("tenant", "url"), [("t2", URL), ("t1", "https://evil.example/"), ("t1", "https://api.example.evil.example/")]
)
async def test_a_secret_goes_nowhere_else(book: SecretBook, tenant: str, url: str) -> None:
    with pytest.raises(ToolDenied):
        await book.credentials(tenant, BEARER, url)


async def test_an_answer_does_not_tell_it(book: SecretBook) -> None:
    used = await book.credentials("t1", HttpAuth(AuthScheme.BASIC, "key"), URL)
    told = {"a": [f"you sent {VALUE}", {VALUE: "czNjcjN0LXZhbHVl"}], "n": 1}
    assert used.scrub(told) == {"a": ["you sent [secret]", {"[secret]": "[secret]"}], "n": 1}


def test_the_whole_is_scrubbed_before_its_part() -> None:
    assert Credentials({}, ("user:password", "password")).scrub("user:password password") == "[secret] [secret]"


async def test_a_password_alone_is_scrubbed_too() -> None:
    book = secret_book()
    await book.put(ADMIN, "key", "ann:correct-horse", ())
    used = await book.credentials("t1", HttpAuth(AuthScheme.BASIC, "key"), URL)
    assert used.scrub("wrong password correct-horse") == "wrong password [secret]"


@pytest.mark.parametrize(
    ("value", "hosts"), [("a\r\nX-Evil: 1", ()), ("nul\0", ()), ("ключ", ()), ("fine", ("https://a.example/",))]
)
async def test_values_that_are_no_header_are_refused(value: str, hosts: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await secret_book().put(ADMIN, "key", value, hosts)
    assert value not in refused.value.message


@pytest.mark.parametrize(
    "auth",
    [
        HttpAuth(AuthScheme.BEARER, "unknown"),
        HttpAuth(AuthScheme.BEARER, "key", "X-Key"),
        HttpAuth(AuthScheme.HEADER, "key"),
        HttpAuth(AuthScheme.HEADER, "key", "Host"),
        HttpAuth(AuthScheme.HEADER, "key", "Idempotency-Key"),
    ],
)
async def test_tools_cannot_name_a_secret_wrongly(book: SecretBook, auth: HttpAuth) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await book.check("t1", auth, URL, field="tool.http.auth")
    assert refused.value.metadata["field"].startswith("tool.http.auth.")


async def test_tools_cannot_take_a_secret_to_another_host(book: SecretBook) -> None:
    with pytest.raises(InvalidArgument, match="host"):
        await book.check("t1", BEARER, "https://evil.example/", field="tool.http.auth")


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda book: book.put(principal("t1", roles=("user",)), "key", "v", ()), PermissionDenied),
        (lambda book: book.list(principal("t1", roles=("viewer",))), PermissionDenied),
        (lambda book: book.delete(principal("t1", roles=("user",)), "key"), PermissionDenied),
        (lambda book: book.delete(ADMIN, "unknown"), NotFound),
    ],
)
async def test_who_may_do_what(book: SecretBook, call: Any, kind: type[ErrandError]) -> None:
    with pytest.raises(kind):
        await call(book)


async def test_there_is_a_most() -> None:
    book = secret_book()
    for number in range(MAX_SECRETS):
        await book.put(ADMIN, f"key{number}", "value", ())
    with pytest.raises(Conflict):
        await book.put(ADMIN, "more", "value", ())


class TestCipher:
    def test_another_name_or_tenant_does_not_open_it(self) -> None:
        cipher = FernetCipher((Fernet.generate_key().decode(),))
        sealed = cipher.seal("t1", "key", VALUE)
        assert cipher.open("t1", "key", sealed) == VALUE
        assert VALUE not in sealed
        for tenant, name in (("t2", "key"), ("t1", "other")):
            with pytest.raises(ToolDenied):
                cipher.open(tenant, name, sealed)

    def test_keys_are_rotated(self) -> None:
        old, new = Fernet.generate_key().decode(), Fernet.generate_key().decode()
        sealed = FernetCipher((old,)).seal("t1", "key", VALUE)
        assert FernetCipher((new, old)).open("t1", "key", sealed) == VALUE
        with pytest.raises(ToolDenied, match="store them again"):
            FernetCipher((new,)).open("t1", "key", sealed)

    async def test_without_a_key_secrets_are_off(self) -> None:
        book = SecretBook(
            InMemorySecretStore(), FernetCipher(()), utc_now, AccessTokens(ScriptedTokenSource(), lambda: 0.0)
        )
        with pytest.raises(Unsupported, match="ERRAND_TOOLS_SECRET_KEYS"):
            await book.put(ADMIN, "key", VALUE, ())


class TestClientCredentials:
    AUTH = HttpAuth(
        AuthScheme.CLIENT_CREDENTIALS, "key", token_url="https://login.example/token", client_id="errand", scope="read"
    )

    @pytest.fixture
    async def source(self) -> ScriptedTokenSource:
        return ScriptedTokenSource()

    @pytest.fixture
    async def book(self, source: ScriptedTokenSource) -> SecretBook:
        book = secret_book(source)
        await book.put(ADMIN, "key", VALUE, ())
        return book

    async def test_a_token_is_bought_once_while_it_is_good(self, book: SecretBook, source: ScriptedTokenSource) -> None:
        used = [await book.credentials("t1", self.AUTH, URL) for _ in range(2)]
        assert [one.headers for one in used] == [{"authorization": "Bearer token-1"}] * 2
        assert source.asked == [(self.AUTH, VALUE)]
        # Neither the token nor the secret comes back in an answer.
        assert used[0].scrub(f"token-1 and {VALUE}") == "[secret] and [secret]"
        source.now += 271
        assert (await book.credentials("t1", self.AUTH, URL)).headers["authorization"] == "Bearer token-2"

    async def test_calls_at_once_share_one_token(self, book: SecretBook, source: ScriptedTokenSource) -> None:
        await asyncio.gather(*(book.credentials("t1", self.AUTH, URL) for _ in range(10)))
        assert len(source.asked) == 1

    async def test_another_secret_scope_or_tenant_asks_anew(
        self, book: SecretBook, source: ScriptedTokenSource
    ) -> None:
        await book.credentials("t1", self.AUTH, URL)
        await book.credentials("t1", replace(self.AUTH, scope="write"), URL)
        await book.put(ADMIN, "key", "another-value", ())
        await book.credentials("t1", self.AUTH, URL)
        await book.put(principal("t2"), "key", "another-value", ())
        await book.credentials("t2", self.AUTH, URL)
        assert len(source.asked) == 4

    async def test_a_failure_is_told_and_not_kept(self, book: SecretBook, source: ScriptedTokenSource) -> None:
        source.failure = ToolFailed("It refuses.")
        with pytest.raises(ToolFailed, match="It refuses"):
            await book.credentials("t1", self.AUTH, URL)
        source.failure = None
        assert (await book.credentials("t1", self.AUTH, URL)).headers

    async def test_the_secret_is_held_to_its_hosts_at_both_ends(self, book: SecretBook) -> None:
        await book.put(ADMIN, "key", VALUE, ("login.example",))
        with pytest.raises(ToolDenied):
            await book.credentials("t1", self.AUTH, URL)
        await book.put(ADMIN, "key", VALUE, ("login.example", "api.example"))
        await book.credentials("t1", self.AUTH, URL)
        with pytest.raises(ToolDenied):
            await book.credentials("t1", replace(self.AUTH, token_url="https://evil.example/token"), URL)

    @pytest.mark.parametrize(
        "changes",
        [
            {"token_url": ""},
            {"client_id": ""},
            {"header": "X-Key"},
            {"token_url": "https://user:pw@login.example/token"},
            {"scheme": AuthScheme.BEARER},
        ],
    )
    async def test_what_cannot_work_is_refused(self, book: SecretBook, changes: dict[str, Any]) -> None:
        with pytest.raises(InvalidArgument):
            await book.check("t1", replace(self.AUTH, **changes), URL, field="auth")
