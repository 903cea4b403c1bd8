"""What every answer has, and what is refused at the door."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from errand_common.testing.keys import TestKeys, free_port
from errand_gateway.testing.backend import FakeBackend
from errand_gateway.testing.gateway import ADMIN_KEY, RunningGateway, running_gateway, test_settings
from errand_gateway.transport import middleware, protocol

LOGINS = "/api/v1/auth/providers"
KEYLESS = ("/healthz", "/readyz", "/metrics", "/.well-known/jwks.json", "/docs", "/openapi.json", LOGINS)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": "errand_admin0_wrongwrongwrongwrong"},
        {"X-API-Key": "errand_nobody_0123456789abcdef0123456789abcdef"},
        {"X-API-Key": "nonsense"},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": f"Basic {ADMIN_KEY}"},
        {"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0."},
    ],
)
async def test_wrong_key_is_refused(gateway: RunningGateway, headers: dict[str, str]) -> None:
    async with gateway.client(None) as http:
        response = await http.post("/api/v1/chat", json={"message": "hi"}, headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert set(response.json()) == {"code", "message", "details", "request_id"}
    assert response.json()["code"] == "UNAUTHENTICATED"


@pytest.mark.parametrize("name", ["X-API-Key", "Authorization"])
async def test_key_is_taken_from_either_header(gateway: RunningGateway, name: str) -> None:
    value = ADMIN_KEY if name == "X-API-Key" else f"Bearer {ADMIN_KEY}"
    async with gateway.client(None) as http:
        response = await http.get("/api/v1/agents", headers={name: value})
    assert response.status_code == 200


@pytest.mark.parametrize("path", KEYLESS)
async def test_public_paths_need_no_key(gateway: RunningGateway, path: str) -> None:
    async with gateway.client(None) as http:
        response = await http.get(path)
    assert response.status_code == 200


async def test_every_other_path_needs_a_key(gateway: RunningGateway) -> None:
    paths = gateway.app.openapi()["paths"]
    async with gateway.client(None) as http:
        for path, operations in paths.items():
            # Browsers come here to log in, and back from where they did.
            if path in KEYLESS or path.startswith(f"{LOGINS}/"):
                continue
            for method in operations:
                response = await http.request(method, path.replace("{", "").replace("}", ""))
                assert response.status_code in {401, 422}, (method, path)
                if response.status_code == 422:
                    assert method in {"post", "put", "patch"}, path


async def test_unknown_path_and_wrong_method_have_the_error_body(gateway: RunningGateway) -> None:
    missing = await gateway.http.get("/api/v1/nothing")
    wrong = await gateway.http.delete("/api/v1/chat")
    assert (missing.status_code, missing.json()["code"]) == (404, "NOT_FOUND")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert wrong.headers["allow"] == "POST"


DEEP = b'{"message":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
JSON_TYPE = ("Content-Type", "application/json")
# Bodies that parsers stumble over, with the status that is right for each.
TWISTED: list[tuple[str, str, bytes, int]] = [
    ("deep", "/api/v1/chat", DEEP, 400),
    ("deep", "/v1/chat/completions", DEEP, 400),
    ("NUL", "/api/v1/chat", b'{"message": "a\\u0000b"}', 422),
    ("NUL byte", "/api/v1/chat", b'{"message": "a\0b"}', 400),
    ("NUL", "/api/v1/agents", b'{"name": "a\\u0000"}', 422),
    ("NUL", "/api/v1/collections", b'{"name": "notes", "description": "a\\u0000"}', 422),
    ("half a pair", "/api/v1/chat", b'{"message": "\\ud800"}', 422),
    ("no UTF-8", "/api/v1/chat", b'{"message": "\xff\xfe"}', 400),
    ("UTF-16", "/api/v1/chat", '{"message": 1}'.encode("utf-16"), 422),
    ("huge number", "/api/v1/search", b'{"query": "x", "top_k": 1' + b"0" * 4000 + b"}", 422),
    ("more digits than are read", "/api/v1/search", b'{"query": "x", "top_k": 1' + b"0" * 5000 + b"}", 400),
    ("endless number", "/api/v1/facts/query", b'{"query": "x", "min_similarity": 1e999}', 422),
    ("no number", "/api/v1/facts/query", b'{"query": "x", "min_similarity": NaN}', 422),
    ("endless number", "/v1/chat/completions", b'{"model": "tiny", "messages": [], "temperature": Infinity}', 400),
    ("a list", "/api/v1/chat", b'["message"]', 422),
    ("nothing", "/api/v1/chat", b"null", 422),
    ("the same name twice", "/api/v1/chat", b'{"message": "a", "message": 1}', 422),
]


@pytest.mark.parametrize(("path", "body", "status"), [row[1:] for row in TWISTED], ids=[row[0] for row in TWISTED])
async def test_twisted_bodies_are_the_callers_fault(
    gateway: RunningGateway, path: str, body: bytes, status: int
) -> None:
    response = await gateway.http.post(path, content=body, headers=[JSON_TYPE])
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    told = response.json()
    assert told["error"]["message"] if "error" in told else told["message"]


@pytest.mark.parametrize("path", ["/api/v1/runs?page_size=1e3", "/api/v1/runs?page_size=9" + "9" * 400])
async def test_twisted_numbers_in_queries(gateway: RunningGateway, path: str) -> None:
    assert (await gateway.http.get(path)).status_code == 422


async def sent(gateway: RunningGateway, head: bytes) -> bytes:
    """The answer's first line to a head that no client's library would send."""
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.replace(b"KEY", ADMIN_KEY.encode()))
    async with asyncio.timeout(10):
        answer = await reader.readline()
    writer.close()
    return answer.removeprefix(b"HTTP/1.1 ")[:3]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /api/v1/me HTTP/1.1\r\nHost: x\r\nX-API-Key: KEY\r\n\r\n", b"200"),
        (b"GET /api/v1/me HTTP/1.1\r\nHost: x\r\nX-API-Key: KEY\r\nX-API-Key: KEY\r\n\r\n", b"401"),
        (b"GET /api/v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer KEY\r\nAuthorization: x\r\n\r\n", b"401"),
        (b"GET /api/v1/me HTTP/1.1\r\nHost: x\r\nX-API-Key: " + b"k" * 100_000 + b"\r\n\r\n", b"400"),
        (b"POST /api/v1/chat HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", b"400"),
        (b"POST /api/v1/chat HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST /api/v1/chat HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"GET /api/v1/me HTTP/1.1\r\nX-API-Key : KEY\r\n\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
    ],
)
async def test_twisted_heads_are_refused(gateway: RunningGateway, head: bytes, status: bytes) -> None:
    assert await sent(gateway, head) == status


async def test_a_head_without_end_is_not_kept(gateway: RunningGateway) -> None:
    endless = b"GET /api/v1/me HTTP/1.1\r\nX-API-Key: " + b"k" * 2_000_000
    with contextlib.suppress(ConnectionError):
        assert await sent(gateway, endless) == b"400"


async def test_who_sends_slowly_is_not_waited_for(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(middleware, "_JSON_SECONDS", 0.2)
    assert await sent(gateway, b"GET /api/v1/me HTTP/1.1\r\nX-API-") == b"400"
    assert await sent(gateway, b"") == b"", "no answer to what was not asked"
    half = (
        b"POST /api/v1/chat HTTP/1.1\r\nX-API-Key: KEY\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
    )
    assert await sent(gateway, half) == b"408"
    # Whoever waits for an answer is waited for.
    answer = await gateway.http.post("/api/v1/chat", json={"message": "hi"})
    assert answer.status_code == 200


PATHS = [
    "/api/v1/agents/%2e%2e%2fadmin",
    "//api/v1/agents",
    "/api/v1/agents/a%00b",
    "/api/v1/runs/%00",
    "/api/v1/runs/%ff%fe",
    "/api/v1/runs/..;/x",
    "/docs/assets/..%2f..%2fpyproject.toml",
    "/docs/assets/%2e%2e/%2e%2e/pyproject.toml",
    "/api/v1/runs/" + "a" * 5000,
]


@pytest.mark.parametrize("path", PATHS)
async def test_path_tricks_lead_nowhere(gateway: RunningGateway, path: str) -> None:
    raw = httpx.URL(gateway.url).copy_with(raw_path=path.encode())
    response = await gateway.http.get(raw)
    assert response.status_code in {404, 422}


async def test_request_id_is_kept_when_it_is_sane(gateway: RunningGateway) -> None:
    kept = await gateway.http.get("/healthz", headers={"X-Request-ID": "my-request.1"})
    replaced = await gateway.http.get("/healthz", headers={"X-Request-ID": "a b<script>"})
    assert kept.headers["x-request-id"] == "my-request.1"
    assert replaced.headers["x-request-id"].startswith("req_")


async def test_request_id_reaches_the_error_body(gateway: RunningGateway) -> None:
    response = await gateway.http.get("/nothing", headers={"X-Request-ID": "trace-me"})
    assert response.json()["request_id"] == "trace-me"


async def test_security_headers_are_everywhere(gateway: RunningGateway) -> None:
    for path in ("/healthz", "/nothing", "/api/v1/agents", "/docs"):
        headers = (await gateway.http.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers


async def test_huge_body_is_refused_before_it_is_read(gateway: RunningGateway) -> None:
    """Only the headers are sent: the answer must come without the body."""
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /api/v1/chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"X-API-Key: " + ADMIN_KEY.encode() + b"\r\nContent-Length: 104857600\r\n\r\n"
    )
    await writer.drain()
    async with asyncio.timeout(5):
        answer = await reader.read(65536)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413")
    assert json.loads(body)["code"] == "TOO_LARGE"


async def test_huge_chunked_body_is_cut_off(gateway: RunningGateway) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b" " * 65536

    response = await gateway.http.post("/api/v1/chat", content=endless(), headers={"Content-Type": "application/json"})
    assert response.status_code == 413
    assert response.json()["details"]["field"] == "body"


async def test_service_that_is_away_is_named(
    tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path
) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    settings = test_settings(tmp_path, backend, keys, agent_target=nowhere)
    async with running_gateway(settings, backend, template=template) as gateway:
        chat = await gateway.http.post("/api/v1/chat", json={"message": "hi"})
        ready = await gateway.http.get("/readyz")
        search = await gateway.http.post("/api/v1/search", json={"query": "x"})
    assert (chat.status_code, chat.json()["details"]) == (503, {"dependency": "agent"})
    assert chat.headers["retry-after"] == "1"
    assert ready.status_code == 503
    assert ready.json()["components"]["agent"]["state"] == "away"
    assert ready.json()["components"]["rag"]["state"] == "ready"
    assert search.status_code == 200


async def test_ready_tells_of_the_cache(
    tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path, redis_server: str
) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    for place, on_failure, status, state in (
        (redis_server, "refuse", 200, "ready"),
        (nowhere, "local", 200, "away"),
        (nowhere, "refuse", 503, "away"),
    ):
        storage = {"rate_limit_storage": f"valkey://{place}/0", "rate_limit_on_failure": on_failure}
        settings = test_settings(tmp_path / f"{state}-{on_failure}", backend, keys, **storage)
        async with running_gateway(settings, backend, template=template) as gateway:
            ready = await gateway.http.get("/readyz")
        found = ready.json()["components"]["cache"]
        assert (ready.status_code, found["state"], found["needed"]) == (status, state, on_failure == "refuse")


async def test_ready_tells_each_component(gateway: RunningGateway) -> None:
    body = (await gateway.http.get("/readyz")).json()
    assert body["ready"] is True
    assert set(body["components"]) == {"database", "agent", "inference", "rag", "tools"}
    assert all(component["latency_ms"] >= 0 for component in body["components"].values())


async def test_rate_limit_refuses_and_says_when(
    tmp_path: Path, backend: FakeBackend, keys: TestKeys, template: Path
) -> None:
    settings = test_settings(tmp_path, backend, keys, rate_limit="3/minute")
    async with running_gateway(settings, backend, template=template) as gateway:
        answers = [await gateway.http.get("/api/v1/agents") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert answers[3].json()["code"] == "RATE_LIMIT"
    assert 1 <= int(answers[3].headers["retry-after"]) <= 60
    assert answers[3].headers["x-ratelimit-limit"] == "3"


async def test_metrics_count_routes_not_paths(gateway: RunningGateway) -> None:
    await gateway.http.get("/api/v1/runs/run_unknown_42")
    text = (await gateway.http.get("/metrics")).text
    assert 'route="/api/v1/runs/{run_id}"' in text
    assert "run_unknown_42" not in text


async def test_documentation_needs_no_internet(gateway: RunningGateway) -> None:
    page = (await gateway.http.get("/docs")).text
    assert "http://" not in page
    assert "https://" not in page
    for asset in ("/docs/assets/swagger-ui-bundle.js", "/docs/assets/swagger-ui.css", "/docs/start.js"):
        response = await gateway.http.get(asset)
        assert response.status_code == 200
        assert asset.removeprefix("/") in page or asset.endswith(".css")


async def test_token_lets_its_bearer_call_the_services(gateway: RunningGateway, keys: TestKeys) -> None:
    body = (await gateway.http.post("/api/v1/token")).json()
    principal = await keys.verifier.verify(body["access_token"])
    assert principal.tenant_id == "default"
    assert body["expires_in"] == 300
    jwks = (await gateway.http.get("/.well-known/jwks.json")).json()
    assert jwks == json.loads(keys.jwks_file.read_text())
