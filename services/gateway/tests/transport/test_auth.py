"""People: logging in, renewing, reuse, logging out, and what administrators may do with them."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from errand_common.db import new_id
from errand_common.errors import Unauthenticated
from errand_common.testing.keys import TestKeys, principal
from errand_common.tokens import TokenSigner, generate_signing_key
from errand_gateway.clients.passwords import Argon2PasswordHasher
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import RunningGateway, running_gateway, test_settings

from .test_admin import make_key, make_tenant

PASSWORD = "correct horse battery"


async def add_user(gateway: RunningGateway, http: httpx.AsyncClient | None = None, **fields: Any) -> dict[str, Any]:
    """A person made by an administrator."""
    wanted = {"email": f"{new_id('ada')}@example.com", "password": PASSWORD, **fields}
    response = await (http or gateway.http).post("/api/v1/admin/users", json=wanted)
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    return body


async def log_in(gateway: RunningGateway, user: dict[str, Any], password: str = PASSWORD) -> httpx.Response:
    """An attempt to log in."""
    body = {"tenant_id": user["tenant_id"], "email": user["email"], "password": password}
    async with gateway.client(None) as http:
        return await http.post("/api/v1/auth/login", json=body)


async def refresh(gateway: RunningGateway, token: str) -> httpx.Response:
    """An attempt to renew."""
    async with gateway.client(None) as http:
        return await http.post("/api/v1/auth/refresh", json={"refresh_token": token})


async def asked(gateway: RunningGateway, token: str, path: str = "/api/v1/me") -> httpx.Response:
    """What is answered to an access token."""
    async with gateway.client(None) as http:
        return await http.get(path, headers={"Authorization": f"Bearer {token}"})


async def test_who_is_deleted_while_logging_in_is_refused(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await add_user(gateway)
    verify = Argon2PasswordHasher.verify

    async def slow(hasher: Argon2PasswordHasher, password: str, hashed: str) -> bool:
        await gateway.http.delete(f"/api/v1/admin/users/{user['id']}")
        return await verify(hasher, password, hashed)

    monkeypatch.setattr(Argon2PasswordHasher, "verify", slow)
    assert (await log_in(gateway, user)).status_code == 401


async def test_a_login_acts_with_the_roles_of_its_user(gateway: RunningGateway) -> None:
    user = await add_user(gateway, roles=["viewer"])
    tokens = (await log_in(gateway, user)).json()
    me = (await asked(gateway, tokens["access_token"])).json()
    assert (me["id"], me["email"], me["roles"]) == (user["id"], user["email"], ["viewer"])
    assert (await asked(gateway, tokens["access_token"], "/api/v1/agents")).status_code == 200
    assert (await asked(gateway, tokens["access_token"], "/api/v1/admin/keys")).status_code == 403
    changed = await gateway.http.patch(f"/api/v1/admin/users/{user['id']}", json={"roles": ["admin"]})
    assert changed.headers["etag"] == '"2"'
    assert (await asked(gateway, tokens["access_token"], "/api/v1/admin/keys")).status_code == 200


async def test_wrong_password_and_unknown_address_are_told_alike(gateway: RunningGateway) -> None:
    user = await add_user(gateway)
    wrong = await log_in(gateway, user, "another password")
    unknown = await log_in(gateway, {**user, "email": "nobody@example.com"})
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json()["message"] == unknown.json()["message"]
    assert (await log_in(gateway, {**user, "email": user["email"].upper()})).status_code == 200


async def test_a_refresh_token_is_good_once_and_its_reuse_ends_the_session(gateway: RunningGateway) -> None:
    first = (await log_in(gateway, await add_user(gateway))).json()
    second = (await refresh(gateway, first["refresh_token"])).json()
    assert (await asked(gateway, second["access_token"])).status_code == 200
    reused = await refresh(gateway, first["refresh_token"])
    assert reused.status_code == 401
    assert "used before" in reused.json()["message"]
    assert (await refresh(gateway, second["refresh_token"])).status_code == 401
    assert (await asked(gateway, second["access_token"])).status_code == 401


async def test_of_two_that_renew_at_once_one_wins_at_most(gateway: RunningGateway) -> None:
    tokens = (await log_in(gateway, await add_user(gateway))).json()
    answers = await asyncio.gather(*(refresh(gateway, tokens["refresh_token"]) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers)[1:] == [401] * 4


@pytest.mark.parametrize("token", ["errand_refresh_", "errand_refresh_!!!", "x", "errand_refresh_" + "A" * 400])
async def test_a_refresh_token_that_is_none(gateway: RunningGateway, token: str) -> None:
    assert (await refresh(gateway, token)).status_code == 401


async def test_a_forged_refresh_token_ends_nothing(gateway: RunningGateway) -> None:
    tokens = (await log_in(gateway, await add_user(gateway))).json()
    forged = tokens["refresh_token"][:-6] + "AAAAAA"
    assert (await refresh(gateway, forged)).status_code == 401
    assert (await refresh(gateway, tokens["refresh_token"])).status_code == 200


async def test_logging_out_ends_the_session(gateway: RunningGateway) -> None:
    tokens = (await log_in(gateway, await add_user(gateway))).json()
    async with gateway.client(None) as http:
        http.headers["Authorization"] = f"Bearer {tokens['access_token']}"
        assert (await http.post("/api/v1/auth/logout")).status_code == 204
        assert (await http.get("/api/v1/me")).status_code == 401
    assert (await refresh(gateway, tokens["refresh_token"])).status_code == 401


async def test_another_password_ends_the_other_sessions(gateway: RunningGateway) -> None:
    user = await add_user(gateway)
    mine, other = [(await log_in(gateway, user)).json() for _ in range(2)]
    async with gateway.client(None) as http:
        http.headers["Authorization"] = f"Bearer {mine['access_token']}"
        body = {"current_password": "wrong wrong wrong", "new_password": "staple horse battery"}
        assert (await http.post("/api/v1/me/password", json=body)).status_code == 422
        body["current_password"] = PASSWORD
        assert (await http.post("/api/v1/me/password", json=body)).status_code == 204
        assert (await http.get("/api/v1/me")).status_code == 200
    assert (await asked(gateway, other["access_token"])).status_code == 401
    assert (await log_in(gateway, user)).status_code == 401
    assert (await log_in(gateway, user, "staple horse battery")).status_code == 200


async def test_a_disabled_user_is_out_at_once(gateway: RunningGateway) -> None:
    user = await add_user(gateway)
    tokens = (await log_in(gateway, user)).json()
    await gateway.http.patch(f"/api/v1/admin/users/{user['id']}", json={"state": "disabled"})
    assert (await asked(gateway, tokens["access_token"])).status_code == 401
    assert (await log_in(gateway, user)).status_code == 401
    await gateway.http.delete(f"/api/v1/admin/users/{user['id']}")
    assert (await gateway.http.get(f"/api/v1/admin/users/{user['id']}")).status_code == 404


async def test_users_of_a_suspended_tenant_are_refused(gateway: RunningGateway) -> None:
    tenant = await make_tenant(gateway)
    tokens = (await log_in(gateway, await add_user(gateway, tenant_id=tenant))).json()
    await gateway.http.patch(f"/api/v1/admin/tenants/{tenant}", json={"state": "suspended"})
    assert (await asked(gateway, tokens["access_token"])).status_code == 403


async def test_nobody_gives_more_than_he_has(gateway: RunningGateway) -> None:
    owner = await add_user(gateway, roles=["owner"])
    key = await make_key(gateway, roles=["admin"], scopes=["admin", "chat", "documents", "tools"])
    async with gateway.client(key["key"]) as http:
        made = {"email": "x@example.com", "password": PASSWORD, "roles": ["owner"]}
        assert (await http.post("/api/v1/admin/users", json=made)).status_code == 403
        mine = await add_user(gateway, http, roles=["admin"])
        grown = await http.patch(f"/api/v1/admin/users/{mine['id']}", json={"roles": ["owner"]})
        taken_over = await http.patch(f"/api/v1/admin/users/{owner['id']}", json={"password": "mine mine mine"})
        removed = await http.delete(f"/api/v1/admin/users/{owner['id']}")
    assert [answer.status_code for answer in (grown, taken_over, removed)] == [403, 403, 403]


async def test_passwords_are_never_shown_or_stored(gateway: RunningGateway) -> None:
    user = await add_user(gateway)
    tokens = (await log_in(gateway, user)).json()
    listed = await gateway.http.get("/api/v1/admin/users")
    assert "hash" not in listed.text
    for file in gateway.settings.data_dir.glob("gateway.db*"):
        content = file.read_bytes()
        assert PASSWORD.encode() not in content
        assert tokens["refresh_token"].encode() not in content


async def test_logins_are_audited_whether_they_succeed_or_not(gateway: RunningGateway) -> None:
    user = await add_user(gateway)
    await log_in(gateway, user, "wrong wrong wrong")
    await log_in(gateway, user)
    async with asyncio.timeout(30):
        while True:
            audit = (await gateway.http.get("/api/v1/admin/audit?page_size=200")).json()["items"]
            events = [row["event"] for row in audit]
            mine = [(event["action"], event["status"]) for event in events if event["principal_id"] == user["id"]]
            if len(mine) == 2:
                break
            await asyncio.sleep(0.1)
    assert mine == [("auth:login", 200), ("auth:login", 401)]


async def test_guessing_is_slowed_down(tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path) -> None:
    settings = test_settings(tmp_path, backend, keys, login_limit="3/minute")
    async with running_gateway(settings, backend, template=template) as gateway:
        user, other = await add_user(gateway), await add_user(gateway)
        guesses = [await log_in(gateway, user, f"guess number {n}") for n in range(4)]
        assert [answer.status_code for answer in guesses] == [401, 401, 401, 429]
        assert int(guesses[3].headers["retry-after"]) >= 1
        assert (await log_in(gateway, user)).status_code == 429
        assert (await log_in(gateway, other)).status_code == 200


def claims(user: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What a good access token of the user would say, but for the changes."""
    now = int(time.time())
    good = {"iss": "errand-gateway", "aud": "errand-api", "sub": user["id"], "tid": "default", "sid": "ses_x"}
    return good | {"iat": now, "exp": now + 60} | changes


async def test_tokens_that_are_not_ours_are_refused(gateway: RunningGateway, keys: TestKeys) -> None:
    user = await add_user(gateway)
    tokens = (await log_in(gateway, user)).json()
    session = jwt.decode(tokens["access_token"], options={"verify_signature": False})["sid"]
    signer = TokenSigner.from_pem(keys.signing_key_file.read_bytes(), issuer="errand-gateway")
    stranger = TokenSigner.from_pem(generate_signing_key(), issuer="errand-gateway")
    wrong = {
        "expired": signer.encode(claims(user, sid=session, exp=int(time.time()) - 10)),
        "other audience": signer.encode(claims(user, sid=session, aud="errand")),
        "internal token": signer.sign(principal("default", user["id"])),
        "forged": stranger.encode(claims(user, sid=session)),
        "alg none": jwt.encode(claims(user, sid=session), None, algorithm="none"),
        "by hmac of the public key": jwt.encode(
            claims(user, sid=session), signer.jwks()["keys"][0]["x"] * 2, algorithm="HS256"
        ),
        "unknown session": signer.encode(claims(user, sid="ses_" + "0" * 32)),
        "another issuer": signer.encode(claims(user, sid=session, iss="https://evil.example")),
        "no session": signer.encode({k: v for k, v in claims(user).items() if k != "sid"}),
        "garbage": "a.b.c",
    }
    for name, token in wrong.items():
        assert (await asked(gateway, token)).status_code == 401, name
    assert (await asked(gateway, signer.encode(claims(user, sid=session)))).status_code == 200


async def test_an_access_token_is_no_token_for_the_services(gateway: RunningGateway, keys: TestKeys) -> None:
    tokens = (await log_in(gateway, await add_user(gateway))).json()
    with pytest.raises(Unauthenticated):
        await keys.verifier.verify(tokens["access_token"])
