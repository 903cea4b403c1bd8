"""Tokens of another issuer, by its key set: who they make of their bearer, and which are refused."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from errand_common.testing.keys import TestKeys
from errand_gateway.settings import IssuerSetting
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import RunningGateway, running_gateway, test_settings
from pydantic import ValidationError

ISSUER = "https://sso.example.com/realms/acme"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateway(
    tmp_path_factory: pytest.TempPathFactory, shared_backend: FakeBackend, keys: TestKeys, template: Path
) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("sso")
    jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key()))
    (folder / "jwks.json").write_text(json.dumps({"keys": [jwk | {"kid": "k1", "alg": "RS256", "use": "sig"}]}))
    issuer = {
        "name": "sso",
        "issuer": ISSUER,
        "jwks": str(folder / "jwks.json"),
        "audience": "errand",
        "tenant_claim": "org",
        "roles_claim": "realm_access.roles",
        "role_map": {"errand-admins": "admin", "staff": "user"},
    }
    settings = test_settings(folder, shared_backend, keys, external_issuers=[issuer])
    async with running_gateway(settings, shared_backend, template=template) as running:
        await running.http.post("/api/v1/admin/tenants", json={"id": "acme"})
        yield running


def token(key: Any = KEY, algorithm: str = "RS256", kid: str = "k1", **changes: Any) -> str:
    """A good token but for the changes; None leaves a claim out."""
    good = {
        "iss": ISSUER,
        "aud": "errand",
        "sub": "ada",
        "org": "acme",
        "exp": int(time.time()) + 60,
        "realm_access": {"roles": ["staff", "others"]},
    }
    claims = {name: value for name, value in (good | changes).items() if value is not None}
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid})


async def ask(gateway: RunningGateway, text: str, path: str = "/api/v1/me") -> httpx.Response:
    """What a bearer is answered."""
    async with gateway.client(None) as http:
        return await http.get(path, headers={"Authorization": f"Bearer {text}"})


async def test_claims_become_tenant_id_and_roles(gateway: RunningGateway) -> None:
    me = (await ask(gateway, token())).json()
    assert (me["id"], me["tenant_id"], me["roles"]) == ("sso.ada", "acme", ["user"])
    assert (await ask(gateway, token(), "/api/v1/admin/keys")).status_code == 403
    admin = token(realm_access={"roles": ["errand-admins"]})
    assert (await ask(gateway, admin, "/api/v1/admin/keys")).status_code == 200
    strange = (await ask(gateway, token(sub="auth0|ada lovelace"))).json()["id"]
    assert strange.startswith("sso.")
    assert len(strange) <= 64


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"exp": 1}, 401),
        ({"aud": "another"}, 401),
        ({"iss": "https://evil.example"}, 401),
        ({"key": OTHER_KEY}, 401),
        ({"kid": "k2"}, 401),
        ({"sub": None}, 401),
        ({"exp": None}, 401),
        ({"key": "secret" * 10, "algorithm": "HS256"}, 401),
        ({"key": None, "algorithm": "none"}, 401),
        ({"key": ec.generate_private_key(ec.SECP256R1()), "algorithm": "ES256"}, 401),
        ({"org": "nobody"}, 403),
        ({"org": None}, 403),
        ({"org": "default"}, 403),
        ({"realm_access": {"roles": ["others"]}}, 403),
        ({"realm_access": "staff"}, 403),
    ],
)
async def test_tokens_that_are_refused(gateway: RunningGateway, wrong: dict[str, Any], status: int) -> None:
    assert (await ask(gateway, token(**wrong))).status_code == status


async def test_a_suspended_tenants_people_are_out_at_once(gateway: RunningGateway) -> None:
    assert (await ask(gateway, token())).status_code == 200
    await gateway.http.patch("/api/v1/admin/tenants/acme", json={"state": "suspended"})
    assert (await ask(gateway, token())).status_code == 403
    await gateway.http.patch("/api/v1/admin/tenants/acme", json={"state": "active"})
    assert (await ask(gateway, token())).status_code == 200


@pytest.mark.parametrize("change", [{"tenant_id": "a", "tenant_claim": "b"}, {"tenant_id": ""}, {"role_map": {}}])
def test_settings_that_would_let_nobody_in_or_anybody(change: dict[str, Any]) -> None:
    good = {"name": "x", "issuer": "i", "jwks": "j", "audience": "a", "tenant_id": "t", "role_map": {"a": "user"}}
    IssuerSetting(**good)
    with pytest.raises(ValidationError):
        IssuerSetting(**good | change)
