"""Internal tokens: who gets in and who does not."""

import asyncio
import base64
import json
import time
from pathlib import Path

import httpx
import jwt
import pytest
import respx
from errand_common import tokens
from errand_common.errors import Unauthenticated, Unavailable
from errand_common.principal import Principal
from errand_common.testing.keys import TestKeys, principal
from errand_common.tokens import TokenSigner, TokenVerifier, generate_signing_key
from structlog.testing import capture_logs


async def test_a_token_gives_back_its_principal(keys: TestKeys) -> None:
    given = Principal("acme", "user-7", frozenset({"developer"}), frozenset({"chat"}), "req-1")
    assert await keys.verifier.verify(keys.signer.sign(given)) == given


def _claims(**changed: object) -> dict[str, object]:
    now = int(time.time())
    claims = {"iss": "errand-gateway", "aud": "errand", "sub": "u", "tid": "t", "iat": now, "exp": now + 60}
    return {key: value for key, value in {**claims, **changed}.items() if value is not None}


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "other"},
        {"iss": "someone-else"},
        {"exp": 1_600_000_000},
        {"exp": None},
        {"iat": None},
        {"sub": None},
        {"tid": None},
        {"tid": ""},
        {"tid": 7},
        {"iss": None},
    ],
    ids=str,
)
async def test_wrong_claims_are_refused(keys: TestKeys, changed: dict[str, object]) -> None:
    key_id = keys.signer.jwks()["keys"][0]["kid"]
    pem = keys.signing_key_file.read_bytes()
    token = jwt.encode(_claims(**changed), pem, algorithm="EdDSA", headers={"kid": key_id})
    with pytest.raises(Unauthenticated):
        await keys.verifier.verify(token)


async def test_a_key_of_a_stranger_is_refused(keys: TestKeys) -> None:
    stranger = TokenSigner.from_pem(generate_signing_key(), issuer="errand-gateway")
    with pytest.raises(Unauthenticated):
        await keys.verifier.verify(stranger.sign(principal()))
    forged = jwt.encode(
        _claims(), generate_signing_key(), algorithm="EdDSA", headers={"kid": keys.signer.jwks()["keys"][0]["kid"]}
    )
    with pytest.raises(Unauthenticated):
        await keys.verifier.verify(forged)


async def test_algorithm_none_and_symmetric_keys_are_refused(keys: TestKeys) -> None:
    key = keys.signer.jwks()["keys"][0]
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": key["kid"]}).encode()).rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(_claims()).encode()).rstrip(b"=")
    symmetric = jwt.encode(_claims(), key["x"] + "=" * 32, algorithm="HS256", headers={"kid": key["kid"]})
    for token in (f"{header.decode()}.{body.decode()}.", symmetric, "nonsense", ""):
        with pytest.raises(Unauthenticated):
            await keys.verifier.verify(token)


async def test_a_rotated_key_is_found_without_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("errand_common.tokens._REREAD_SECONDS", 0.0)
    first, second = (TokenSigner.from_pem(generate_signing_key(), issuer="errand-gateway") for _ in range(2))
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(first.jwks()))
    verifier = TokenVerifier(str(file))
    assert await verifier.verify(first.sign(principal()))
    with pytest.raises(Unauthenticated):
        await verifier.verify(second.sign(principal()))
    file.write_text(json.dumps(second.jwks()))
    assert await verifier.verify(second.sign(principal()))
    with pytest.raises(Unauthenticated):
        await verifier.verify(first.sign(principal()))


async def test_key_sets_come_from_urls_too_and_an_absent_one_is_unavailable(
    keys: TestKeys, respx_mock: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = respx_mock.get("http://gateway/jwks").mock(
        side_effect=[httpx.Response(500), httpx.Response(200, json=keys.signer.jwks())]
    )
    verifier = TokenVerifier("http://gateway/jwks")
    for _ in range(3):
        with pytest.raises(Unavailable):
            await verifier.verify(keys.signer.sign(principal()))
    assert route.call_count == 1, "a source that is away is not asked by every call"
    monkeypatch.setattr("errand_common.tokens._RETRY_SECONDS", 0.0)
    assert (await verifier.verify(keys.signer.sign(principal()))).tenant_id == "default"


async def test_strangers_do_not_make_the_verifier_ask_again_and_again(
    keys: TestKeys, respx_mock: respx.MockRouter
) -> None:
    route = respx_mock.get("http://gateway/jwks").respond(json=keys.signer.jwks())
    verifier = TokenVerifier("http://gateway/jwks")
    for _ in range(5):
        stranger = TokenSigner.from_pem(generate_signing_key(), issuer="errand-gateway")
        with pytest.raises(Unauthenticated):
            await verifier.verify(stranger.sign(principal()))
    assert route.call_count == 1


async def test_a_known_key_outlives_an_absent_source_but_not_its_removal(
    keys: TestKeys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("errand_common.tokens._OLDEST_SECONDS", 0.0)
    monkeypatch.setattr("errand_common.tokens._RETRY_SECONDS", 0.0)
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(keys.signer.jwks()))
    verifier = TokenVerifier(str(file))
    assert await verifier.verify(keys.signer.sign(principal()))
    file.unlink()
    assert await verifier.verify(keys.signer.sign(principal()))
    file.write_text(json.dumps(TokenSigner.from_pem(generate_signing_key(), issuer="errand-gateway").jwks()))
    with pytest.raises(Unauthenticated):
        await verifier.verify(keys.signer.sign(principal()))


def test_other_kinds_of_keys_are_refused() -> None:
    with pytest.raises(ValueError, match=r"could not|Unable|valid"):
        TokenSigner.from_pem(b"not a key", issuer="errand-gateway")


class TestKnownTokens:
    async def test_a_known_token_is_not_checked_again(self, keys: TestKeys, monkeypatch: pytest.MonkeyPatch) -> None:
        token = keys.signer.sign(principal())
        first = await keys.verifier.verify(token)
        monkeypatch.setattr("errand_common.tokens.jwt.decode", None)
        assert await keys.verifier.verify(token) == first

    async def test_it_ends_when_it_expires(self, keys: TestKeys, monkeypatch: pytest.MonkeyPatch) -> None:
        token = keys.signer.sign(principal(), ttl_seconds=60)
        await keys.verifier.verify(token)
        later = time.time() + 61
        monkeypatch.setattr("errand_common.tokens.time.time", lambda: later)
        monkeypatch.setattr("errand_common.tokens.jwt.decode", _expired)
        with pytest.raises(Unauthenticated):
            await keys.verifier.verify(token)

    async def test_it_ends_with_its_key(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        first, second = (TokenSigner.from_pem(generate_signing_key(), issuer="errand-gateway") for _ in range(2))
        file = tmp_path / "jwks.json"
        file.write_text(json.dumps(first.jwks()))
        verifier = TokenVerifier(str(file))
        token = first.sign(principal())
        await verifier.verify(token)
        file.write_text(json.dumps(second.jwks()))
        monkeypatch.setattr("errand_common.tokens._OLDEST_SECONDS", -1.0)
        monkeypatch.setattr("errand_common.tokens._REREAD_SECONDS", -1.0)
        with pytest.raises(Unauthenticated):
            await verifier.verify(token)

    async def test_a_token_with_one_letter_changed_is_another_one(self, keys: TestKeys) -> None:
        token = keys.signer.sign(principal())
        await keys.verifier.verify(token)
        head, body, signature = token.split(".")
        changed = f"{head}.{body}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"
        with pytest.raises(Unauthenticated):
            await keys.verifier.verify(changed)

    async def test_only_so_many_are_known(self, keys: TestKeys, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("errand_common.tokens._MOST_VERIFIED", 2)
        verifier = TokenVerifier(str(keys.jwks_file))
        first, *others = (keys.signer.sign(principal(f"t{number}")) for number in range(3))
        for token in (first, *others):
            await verifier.verify(token)
        monkeypatch.setattr("errand_common.tokens.jwt.decode", _expired)
        for token in others:
            assert await verifier.verify(token)
        with pytest.raises(Unauthenticated):
            await verifier.verify(first)


def _expired(*_: object, **__: object) -> None:
    raise jwt.ExpiredSignatureError


async def test_keys_that_come_late_are_waited_for(
    keys: TestKeys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_RETRY_SECONDS", 0.01)
    late = tmp_path / "late.json"
    verifier = TokenVerifier(str(late))
    waiting = asyncio.create_task(verifier.wait_for_keys())
    await asyncio.sleep(0.1)
    assert not waiting.done()
    late.write_text(keys.jwks_file.read_text())
    await asyncio.wait_for(waiting, 5)
    assert await verifier.verify(keys.signer.sign(principal())) == principal()


async def test_without_a_source_there_is_nothing_to_wait_for() -> None:
    await asyncio.wait_for(TokenVerifier("").wait_for_keys(), 1)


async def test_a_source_that_stays_away_is_told_of_at_growing_distance(
    keys: TestKeys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pods wait for it during an installation, and one line a second hid all others."""
    monkeypatch.setattr(tokens, "_RETRY_SECONDS", 0.0)
    file = tmp_path / "late.json"
    verifier = TokenVerifier(str(file))
    with capture_logs() as told:
        for _ in range(20):
            with pytest.raises(Unavailable):
                await verifier.verify(keys.signer.sign(principal()))
        file.write_text(keys.jwks_file.read_text())
        assert await verifier.verify(keys.signer.sign(principal()))
    assert [(line["log_level"], line["failures"]) for line in told] == [
        *(("warning", count) for count in (1, 2, 4, 8, 16)),
        ("info", 20),
    ]
