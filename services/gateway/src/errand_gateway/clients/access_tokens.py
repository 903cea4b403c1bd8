"""Access tokens of people: EdDSA-signed JWTs for this gateway alone, never for the services behind it."""

import time
from typing import Any, Final

import jwt
from errand_common.errors import Unauthenticated
from errand_common.tokens import ALGORITHM, TokenSigner

from errand_gateway.domain.sessions import AccessClaims
from errand_gateway.domain.users import Session, User

ISSUER: Final = "errand-gateway"
AUDIENCE: Final = "errand-api"
_REQUIRED: Final = ["exp", "iat", "sub", "aud", "iss", "tid", "sid"]


class JwtAccessTokens:
    """AccessTokens signed with the gateway's own key."""

    def __init__(self, signer: TokenSigner, *, seconds: float) -> None:
        self._signer = signer
        self._key = jwt.PyJWKSet.from_dict(signer.jwks()).keys[0]
        self.seconds = seconds

    def sign(self, user: User, session: Session) -> str:
        """A token of the session."""
        now = time.time()
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": user.id,
            "tid": user.tenant_id,
            "sid": session.id,
            "iat": int(now),
            "exp": int(now + self.seconds),
        }
        return self._signer.encode(claims)

    def read(self, text: str) -> AccessClaims | None:
        """What a token says; None for what is no token of ours. Raises Unauthenticated for a bad one."""
        if issuer_of(text) != ISSUER:
            return None
        try:
            claims: dict[str, Any] = jwt.decode(
                text,
                self._key,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                options={"require": _REQUIRED},
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("the access token has expired; get another with the refresh token") from error
        except jwt.PyJWTError as error:
            raise Unauthenticated("the access token is not valid; log in again") from error
        return AccessClaims(str(claims["tid"]), str(claims["sid"]))


def issuer_of(text: str) -> str:
    """Who a token says has issued it, unverified; empty for what is no token."""
    try:
        issuer = jwt.decode(text, options={"verify_signature": False}).get("iss", "")
    except jwt.PyJWTError:
        return ""
    return issuer if isinstance(issuer, str) else ""
