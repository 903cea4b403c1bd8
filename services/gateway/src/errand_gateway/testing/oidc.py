"""A small OpenID Connect provider that really listens, for tests: it confirms whoever it was told to, with PKCE."""

import asyncio
import base64
import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import urlencode

import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi import FastAPI, Form, Request
from fastapi.responses import JSONResponse, RedirectResponse

CLIENT_ID = "errand"
CLIENT_SECRET = "a client's secret"  # noqa: S105 - of a provider that a test makes


class FakeProvider:
    """`claims` says who logs in, `changes` what of its token is not as it should be."""

    def __init__(self) -> None:
        self.url = ""
        self.claims: dict[str, Any] = {}
        self.changes: dict[str, Any] = {}
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._codes: dict[str, dict[str, str]] = {}

    def discovery(self) -> dict[str, Any]:
        """What clients find it by."""
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
        }

    def jwks(self) -> dict[str, Any]:
        """Its public key."""
        jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return {"keys": [jwk | {"kid": "k1", "alg": "RS256", "use": "sig"}]}

    async def authorize(self, request: Request) -> RedirectResponse:
        """Confirms at once."""
        asked = dict(request.query_params)
        if asked.get("code_challenge_method") != "S256" or asked.get("response_type") != "code":
            raise ValueError(f"no code flow with PKCE: {asked}")
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}", 302)

    async def token(
        self,
        request: Request,
        code: Annotated[str, Form()],
        code_verifier: Annotated[str, Form()],
        redirect_uri: Annotated[str, Form()],
    ) -> JSONResponse:
        """A token for a code, once, for whoever has the verifier and the client's secret."""
        asked = self._codes.pop(code, None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(code_verifier.encode()).digest()).rstrip(b"=").decode()
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        if asked is None or (asked["code_challenge"], asked["redirect_uri"]) != (challenge, redirect_uri):
            return JSONResponse({"error": "invalid_grant"}, 400)
        if request.headers.get("authorization") != f"Basic {basic}":
            return JSONResponse({"error": "invalid_client"}, 401)
        return JSONResponse({"token_type": "Bearer", "access_token": "x", "id_token": self._id_token(asked)})

    def _id_token(self, asked: dict[str, str]) -> str:
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT_ID, "nonce": asked["nonce"], "iat": now, "exp": now + 60}
        return jwt.encode(claims | self.claims | self.changes, self.key, "RS256", headers={"kid": "k1"})

    def logout_token(self, **changes: Any) -> str:
        """What it tells clients when a session has ended; claims that are None are left out."""
        now = int(time.time())
        event: dict[str, Any] = {"http://schemas.openid.net/event/backchannel-logout": {}}
        claims = {"iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + 60, "jti": "x", "events": event} | changes
        said = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(said, self.key, "RS256", headers={"kid": "k1", "typ": "logout+jwt"})


@contextlib.asynccontextmanager
async def fake_provider() -> AsyncIterator[FakeProvider]:
    """Serves a provider until the end of the block."""
    provider = FakeProvider()
    app = FastAPI()
    app.get("/.well-known/openid-configuration")(provider.discovery)
    app.get("/jwks")(provider.jwks)
    app.get("/authorize")(provider.authorize)
    app.post("/token")(provider.token)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, loop="none"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        if task.done():
            raise RuntimeError("the provider did not start") from task.exception()
        await asyncio.sleep(0.005)
    provider.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    try:
        yield provider
    finally:
        server.should_exit = True
        await task
