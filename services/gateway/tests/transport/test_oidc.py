"""Logging in with a browser at a provider that really listens: code flow, PKCE, state, nonce."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
import pytest_asyncio
from errand_common.db import new_id
from errand_common.testing.keys import TestKeys
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import RunningGateway, running_gateway, test_settings
from errand_gateway.testing.oidc import CLIENT_ID, CLIENT_SECRET, FakeProvider, fake_provider
from pydantic import ValidationError

PREFIX = "/api/v1/auth/providers"
PAGE = "https://app.example.com/welcome?from=errand"
PUBLIC = "http://errand.test"
UNCHECKED = {"verify_signature": False}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served() -> AsyncIterator[FakeProvider]:
    async with fake_provider() as provider:
        yield provider


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(
    tmp_path_factory: pytest.TempPathFactory,
    shared_backend: FakeBackend,
    keys: TestKeys,
    template: Path,
    served: FakeProvider,
) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("oidc")
    provider = {
        "name": "sso",
        "issuer": served.url,
        "client_id": CLIENT_ID,
        "tenant_claim": "org",
        "role_map": {"staff": "user", "boss": "admin"},
    }
    away = {**provider, "name": "away", "issuer": "http://127.0.0.1:9", "default_roles": ["user"]}
    settings = test_settings(
        folder,
        shared_backend,
        keys,
        login_providers=[provider, away],
        login_client_secrets={"sso": CLIENT_SECRET},
        login_return_urls=[PAGE],
        public_url=PUBLIC,
        login_address_limit="100000/minute",
    )
    async with running_gateway(settings, shared_backend, template=template) as running:
        await running.http.post("/api/v1/admin/tenants", json={"id": "acme"})
        yield running


@pytest.fixture
def provider(served: FakeProvider) -> FakeProvider:
    """The provider, at which ada of acme logs in."""
    name = new_id("ada")
    served.claims = {
        "sub": name,
        "org": "acme",
        "roles": ["staff"],
        "name": "Ada",
        "email": f"{name}@Example.com",
        "email_verified": True,
    }
    served.changes = {}
    return served


async def sent_back(browser: httpx.AsyncClient, **query: str) -> str:
    """Where the provider sends a browser that logs in, as a path of the gateway."""
    begun = await browser.get(f"{PREFIX}/sso/login", params=query)
    assert begun.status_code == 302, begun.text
    assert "httponly" in begun.headers["set-cookie"].lower()
    assert "samesite=lax" in begun.headers["set-cookie"].lower()
    async with httpx.AsyncClient(verify=False) as elsewhere:
        confirmed = await elsewhere.get(begun.headers["location"])
    place: str = confirmed.headers["location"]
    assert place.startswith(f"{PUBLIC}{PREFIX}/sso/callback?")
    return place.removeprefix(PUBLIC)


async def logged_in(gateway: RunningGateway) -> httpx.Response:
    """The answer to a browser that comes back."""
    async with gateway.client(None) as browser:
        return await browser.get(await sent_back(browser))


async def me(gateway: RunningGateway, tokens: dict[str, Any]) -> dict[str, Any]:
    """Who an access token is."""
    async with gateway.client(None) as http:
        found: dict[str, Any] = (
            await http.get("/api/v1/me", headers={"Authorization": f"Bearer {tokens['access_token']}"})
        ).json()
    return found


async def test_who_logs_in_there_has_a_session_here(gateway: RunningGateway, provider: FakeProvider) -> None:
    tokens = (await logged_in(gateway)).json()
    found = await me(gateway, tokens)
    assert (found["tenant_id"], found["roles"]) == ("acme", ["user"])
    assert found["email"] == provider.claims["email"].lower()
    assert found["id"].startswith("sso.")
    # The same person, who has another role by now.
    provider.claims["roles"] = ["boss"]
    again = (await logged_in(gateway)).json()
    assert again["user_id"] == tokens["user_id"]
    assert (await me(gateway, again))["roles"] == ["admin"]
    async with gateway.client(None) as http:
        renewed = await http.post("/api/v1/auth/refresh", json={"refresh_token": again["refresh_token"]})
        assert renewed.status_code == 200
        password = {"tenant_id": "acme", "email": found["email"], "password": "x" * 12}
        assert (await http.post("/api/v1/auth/login", json=password)).status_code == 401, "there is no password"
        assert (await http.get(PREFIX)).json() == {"items": ["away", "sso"]}


async def test_a_page_gets_a_ticket_that_is_good_once(gateway: RunningGateway, provider: FakeProvider) -> None:
    async with gateway.client(None) as browser:
        answer = await browser.get(await sent_back(browser, return_to=PAGE))
        assert answer.status_code == 302
        place = answer.headers["location"]
        assert place.startswith(f"{PAGE}&ticket=")
        body = {"ticket": parse_qs(urlsplit(place).query)["ticket"][0]}
        tokens = await browser.post(f"{PREFIX}/token", json=body)
        assert tokens.status_code == 200
        assert (await me(gateway, tokens.json()))["tenant_id"] == "acme"
        assert (await browser.post(f"{PREFIX}/token", json=body)).status_code == 401
        assert (await me(gateway, tokens.json()))["code"] == "UNAUTHENTICATED", "a ticket that was copied ends it"
        forged = {"ticket": body["ticket"][:-6] + "AAAAAA"}
        assert (await browser.post(f"{PREFIX}/token", json=forged)).status_code == 422
        elsewhere = await browser.get(f"{PREFIX}/sso/login", params={"return_to": "https://evil.example.com/"})
        assert elsewhere.status_code == 422
        assert elsewhere.json()["details"]["field"] == "return_to"


async def test_another_browser_s_answer_is_refused(gateway: RunningGateway, provider: FakeProvider) -> None:
    async with gateway.client(None) as mine, gateway.client(None) as theirs:
        place = await sent_back(mine)
        assert (await theirs.get(place)).status_code == 422, "no note"
        await sent_back(theirs)
        assert (await theirs.get(place)).status_code == 422, "the note of another attempt"
        assert (await mine.get(place.replace("/sso/", "/away/"))).status_code == 422, "of another provider"
        theirs.cookies.clear()
        theirs.cookies.set("errand_login", "nonsense")
        assert (await theirs.get(place)).status_code == 422
        assert (await mine.get(place)).status_code == 200
        assert (await mine.get(place)).status_code in (401, 422), "a code is good once"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"nonce": "another"}, 401),
        ({"aud": "another"}, 401),
        ({"aud": [CLIENT_ID, "another"], "azp": "another"}, 401),
        ({"iss": "https://evil.example.com"}, 401),
        ({"exp": 1}, 401),
        ({"org": "default"}, 403),
        ({"org": "nobody"}, 403),
        ({"roles": ["others"]}, 403),
    ],
)
async def test_a_token_that_is_not_as_it_should_be(
    gateway: RunningGateway, provider: FakeProvider, changes: dict[str, Any], status: int
) -> None:
    provider.changes = changes
    assert (await logged_in(gateway)).status_code == status


async def test_an_address_that_is_not_shown_to_be_the_person_s_is_not_taken(
    gateway: RunningGateway, provider: FakeProvider
) -> None:
    taken = f"{new_id('eve')}@example.com"
    user = {"tenant_id": "acme", "email": taken, "password": "x" * 12}
    assert (await gateway.http.post("/api/v1/admin/users", json=user)).status_code == 201
    provider.claims["email"] = taken
    refused = await logged_in(gateway)
    assert (refused.status_code, "another account" in refused.json()["message"]) == (403, True)
    provider.claims["email_verified"] = False
    assert (await me(gateway, (await logged_in(gateway)).json()))["email"].endswith("@sso.invalid")


async def test_who_may_not_come_in(gateway: RunningGateway, provider: FakeProvider) -> None:
    tokens = (await logged_in(gateway)).json()
    path = f"/api/v1/admin/users/{tokens['user_id']}?tenant_id=acme"
    assert (await gateway.http.patch(path, json={"state": "disabled"})).status_code == 200
    assert (await logged_in(gateway)).status_code == 401
    async with gateway.client(None) as browser:
        begun = await browser.get(f"{PREFIX}/sso/login")
        state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]
        denied = await browser.get(f"{PREFIX}/sso/callback", params={"state": state, "error": "access_denied"})
        assert denied.status_code == 401
        away = await browser.get(f"{PREFIX}/away/login")
        assert (away.status_code, away.json()["details"]["dependency"]) == (503, "login provider")
        assert (await browser.get(f"{PREFIX}/nobody/login")).status_code == 404


async def told(gateway: RunningGateway, token: str) -> httpx.Response:
    """The answer to a provider that tells of a logout."""
    async with gateway.client(None) as http:
        return await http.post(f"{PREFIX}/sso/logout", data={"logout_token": token})


async def is_in(gateway: RunningGateway, tokens: dict[str, Any]) -> bool:
    """Whether a session goes on, by both of its tokens' means."""
    async with gateway.client(None) as http:
        seen = await http.get("/api/v1/me", headers={"Authorization": f"Bearer {tokens['access_token']}"})
        assert seen.status_code in (200, 401)
        return seen.status_code == 200


async def test_a_session_ends_with_the_provider_s(gateway: RunningGateway, provider: FakeProvider) -> None:
    provider.claims["sid"] = new_id("there")
    mine = (await logged_in(gateway)).json()
    provider.claims["sid"] = other = new_id("there")
    elsewhere = (await logged_in(gateway)).json()
    ended = await told(gateway, provider.logout_token(sid=other))
    assert (ended.status_code, ended.headers["cache-control"]) == (200, "no-store")
    assert [await is_in(gateway, tokens) for tokens in (mine, elsewhere)] == [True, False]
    async with gateway.client(None) as http:
        renewed = await http.post("/api/v1/auth/refresh", json={"refresh_token": elsewhere["refresh_token"]})
        assert renewed.status_code == 401
    assert (await told(gateway, provider.logout_token(sub=provider.claims["sub"]))).status_code == 200
    assert not await is_in(gateway, mine)
    assert (await told(gateway, provider.logout_token(sub="nobody", sid="none"))).status_code == 200


async def test_a_logout_ends_nobody_else_and_nothing_that_began_since(
    gateway: RunningGateway, provider: FakeProvider
) -> None:
    mine, name = (await logged_in(gateway)).json(), provider.claims["sub"]
    provider.claims |= {"sub": new_id("bob"), "email": f"{new_id('bob')}@example.com", "sid": "bobs"}
    theirs = (await logged_in(gateway)).json()
    before = int(time.time()) - 60
    assert (await told(gateway, provider.logout_token(sub=name, iat=before))).status_code == 200
    assert (await told(gateway, provider.logout_token(sub=name, sid="bobs"))).status_code == 200
    assert [await is_in(gateway, tokens) for tokens in (mine, theirs)] == [True, True]


async def test_what_is_no_logout_token_ends_nothing(gateway: RunningGateway, provider: FakeProvider) -> None:
    provider.claims["sid"] = sid = new_id("there")
    mine = (await logged_in(gateway)).json()
    event = "http://schemas.openid.net/event/backchannel-logout"
    wrong = {
        "of a login": provider.logout_token(sid=sid, nonce="x"),
        "no event": provider.logout_token(sid=sid, events=None),
        "another event": provider.logout_token(sid=sid, events={"https://example.com/other": {}}),
        "events are none": provider.logout_token(sid=sid, events=event),
        "names nobody": provider.logout_token(),
        "expired": provider.logout_token(sid=sid, exp=1),
        "without an end": provider.logout_token(sid=sid, exp=None),
        "another client's": provider.logout_token(sid=sid, aud="another"),
        "another issuer's": provider.logout_token(sid=sid, iss="https://evil.example.com"),
        "unsigned": jwt.encode(jwt.decode(provider.logout_token(sid=sid), options=UNCHECKED), None, "none"),
        "garbage": "x",
    }
    for name, token in wrong.items():
        answer = await told(gateway, token)
        assert (answer.status_code, answer.json()["details"]) == (400, {"field": "logout_token"}), name
    assert await is_in(gateway, mine)
    async with gateway.client(None) as http:
        assert (await http.post(f"{PREFIX}/nobody/logout", data={"logout_token": "x"})).status_code == 404
        assert (await http.post(f"{PREFIX}/away/logout", data={"logout_token": "x"})).status_code == 503
        assert (await http.post(f"{PREFIX}/sso/logout", data={"logout": "x"})).status_code == 422


def test_settings_that_cannot_work(tmp_path: Path, shared_backend: FakeBackend, keys: TestKeys) -> None:
    issuer: dict[str, Any] = {"name": "a", "issuer": "https://a", "tenant_id": "t", "default_roles": ["user"]}
    good, other = {**issuer, "client_id": "x"}, {**issuer, "issuer": "https://b", "jwks": "x", "audience": "y"}
    for changes, told in (
        ({"login_providers": [good]}, "public_url"),
        ({"login_providers": [good, good], "public_url": PUBLIC}, "a name of its own"),
        ({"login_providers": [{**good, "scope": "email"}], "public_url": PUBLIC}, "scope"),
        ({"login_client_secrets": {"b": "x"}}, "b is none of login_providers"),
        ({"login_providers": [good], "public_url": PUBLIC, "external_issuers": [other]}, "another issuer"),
    ):
        with pytest.raises(ValidationError, match=told):
            test_settings(tmp_path, shared_backend, keys, **changes)
