"""HTTP for tools, against a real server on loopback and every disguise of a private address."""

import asyncio
import gzip
import json
import re
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from errand_common.http import Reach
from errand_common.telemetry import tracer
from errand_common.telemetry.bound import kept_span
from errand_common.telemetry.tracing import received_trace
from errand_common.testing.spans import RecordedSpans
from errand_tools.clients.http import MAX_BODY_BYTES, GuardedHttpCaller, GuardedWebFetcher
from errand_tools.domain.tools import (
    CallContext,
    HttpBinding,
    OutcomeUnknown,
    ServiceDown,
    ToolDenied,
    ToolError,
    ToolFailed,
    ToolNotFound,
)
from opentelemetry.trace import StatusCode, get_current_span

Handler = Callable[[str, asyncio.StreamWriter], Any]


class Server:
    """Answers raw bytes by path, and remembers the requests."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.requests: list[str] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(
        self, path: str, body: bytes | str, status: str = "200 OK", type_: str = "text/plain", **more: str
    ) -> None:
        data = body.encode() if isinstance(body, str) else body
        headers = {"content-type": type_, "content-length": str(len(data)), **more}
        head = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in headers.items() if v)
        self.answers[path] = f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + data

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                text = head.decode()
                length = int(dict(re.findall(r"(?m)^([\w-]+): (.*)\r$", text.lower())).get("content-length", 0))
                self.requests.append(text + (await reader.readexactly(length)).decode())
                path = text.split(" ")[1].split("?")[0]
                answer = self.answers.get(path, b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
                if callable(answer):
                    await answer(writer)
                else:
                    writer.write(answer)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def _served(server: Server) -> AsyncIterator[Server]:
    tasks = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = tasks.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        tasks.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with _served(Server()) as served:
        yield served


@pytest.fixture
async def web(server: Server) -> AsyncIterator[GuardedWebFetcher]:
    fetcher = GuardedWebFetcher(Reach((f"127.0.0.1:{server.port}",)))
    yield fetcher
    await fetcher.close()


@pytest.fixture
async def caller(server: Server) -> AsyncIterator[GuardedHttpCaller]:
    http = GuardedHttpCaller(Reach(None, ("127.0.0.0/8",), (server.port, 80, 443)))
    yield http
    await http.close()


CONTEXT = CallContext(timeout_seconds=5, effect_id="eff_1")


class TestFetching:
    async def test_a_page(self, server: Server, web: GuardedWebFetcher) -> None:
        server.answer("/a", "hello")
        assert await web.get(f"{server.url}/a") == {"status": 200, "body": "hello"}

    async def test_html_becomes_text(self, server: Server, web: GuardedWebFetcher) -> None:
        page = (
            "<html><head><title>T</title><script>evil()</script></head><body><h1>Hi</h1>"
            "<p>a &amp; b<br>c</p><style>x{}</style><ul><li>1<li>2</ul></body>"
        )
        server.answer("/a", page, type_="text/html; charset=utf-8")
        assert (await web.get(f"{server.url}/a"))["body"] == "T\nHi\na & b\nc\n1\n2"

    async def test_errors_of_the_page_are_results(self, server: Server, web: GuardedWebFetcher) -> None:
        assert await web.get(f"{server.url}/none") == {"status": 404, "body": ""}

    async def test_binary_is_told_and_not_shown(self, server: Server, web: GuardedWebFetcher) -> None:
        server.answer("/a", b"\x89PNG\x00", type_="image/png")
        assert (await web.get(f"{server.url}/a"))["body"] == ("(5 bytes of image/png, which is no text)")

    @pytest.mark.parametrize("charset", ["latin-1", "nonsense", "utf-16"])
    async def test_any_charset(self, server: Server, web: GuardedWebFetcher, charset: str) -> None:
        server.answer("/a", "é".encode("latin-1"), type_=f"text/plain; charset={charset}")
        assert (await web.get(f"{server.url}/a"))["status"] == 200

    async def test_a_long_page_is_cut(self, server: Server, web: GuardedWebFetcher) -> None:
        server.answer("/a", "x" * (3 * MAX_BODY_BYTES))
        assert len((await web.get(f"{server.url}/a"))["body"]) == MAX_BODY_BYTES

    async def test_an_endless_page_is_cut(self, server: Server, web: GuardedWebFetcher) -> None:
        async def endless(writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            while True:
                writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
                await writer.drain()

        server.answers["/a"] = endless
        assert len((await web.get(f"{server.url}/a"))["body"]) == MAX_BODY_BYTES

    async def test_a_compressed_bomb_is_cut(self, server: Server, web: GuardedWebFetcher) -> None:
        server.answer("/a", gzip.compress(b"0" * 50_000_000), content_encoding="gzip")
        async with asyncio.timeout(5):
            assert len((await web.get(f"{server.url}/a"))["body"]) == MAX_BODY_BYTES

    @pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
    async def test_a_compressed_page(
        self, server: Server, web: GuardedWebFetcher, encoding: str, pack: Callable[[bytes], bytes]
    ) -> None:
        server.answer("/a", pack(b"hello " * 1000), content_encoding=encoding)
        assert (await web.get(f"{server.url}/a"))["body"] == "hello " * 1000

    @pytest.mark.parametrize("encoding", ["br", "gzip"])
    async def test_a_compression_that_is_none(self, server: Server, web: GuardedWebFetcher, encoding: str) -> None:
        server.answer("/a", "plain", content_encoding=encoding)
        with pytest.raises(ToolFailed):
            await web.get(f"{server.url}/a")

    async def test_a_slow_drip_ends_with_the_callers_time(self, server: Server, web: GuardedWebFetcher) -> None:
        async def drip(writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.01)

        server.answers["/a"] = drip
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await web.get(f"{server.url}/a")

    async def test_no_answer_at_all(self, server: Server, web: GuardedWebFetcher) -> None:
        async def close(writer: asyncio.StreamWriter) -> None:
            writer.close()

        server.answers["/a"] = close
        with pytest.raises(ServiceDown, match="connection"):
            await web.get(f"{server.url}/a")


class TestReach:
    async def test_off_without_a_list(self) -> None:
        web = GuardedWebFetcher(Reach(()))
        with pytest.raises(ToolDenied, match="turned off"):
            await web.get("http://example.com/")
        await web.close()

    async def test_hosts_that_are_not_listed(self, server: Server) -> None:
        web = GuardedWebFetcher(Reach(("a.example", "*.b.example")))
        for url in (
            "http://example.com/",
            "http://a.example.evil.example/",
            "http://evil-a.example/",
            "http://b.example/",
            "http://127.0.0.1/",
        ):
            with pytest.raises(ToolDenied, match=r"not on the list|private"):
                await web.get(url)
        await web.close()

    async def test_a_redirect_off_the_list(self, server: Server, web: GuardedWebFetcher) -> None:
        async with _served(Server()) as other:
            server.answer("/a", "", "302 Found", location=f"http://localhost:{other.port}/")
            server.answer("/b", "", "302 Found", location="http://169.254.169.254/latest/meta-data")
            server.answer("/c", "", "302 Found", location="file:///etc/passwd")
            for path in ("/a", "/b", "/c"):
                with pytest.raises(ToolError):
                    await web.get(f"{server.url}{path}")
            assert other.requests == []

    async def test_a_redirect_on_the_list(self, server: Server, web: GuardedWebFetcher) -> None:
        server.answer("/a", "", "302 Found", location="/b")
        server.answer("/b", "there")
        assert (await web.get(f"{server.url}/a"))["body"] == "there"

    async def test_endless_redirects(self, server: Server, web: GuardedWebFetcher) -> None:
        server.answer("/a", "", "302 Found", location="/a")
        with pytest.raises(ToolDenied, match="redirects too often"):
            await web.get(f"{server.url}/a")
        assert len(server.requests) <= 5

    async def test_a_listed_address_is_reached_and_its_neighbours_are_not(self, server: Server) -> None:
        server.answer("/a", "x")
        web = GuardedWebFetcher(Reach((f"127.0.0.1:{server.port}", "localhost")))
        await web.get(f"{server.url}/a")
        with pytest.raises(ToolDenied):
            await web.get(f"http://127.0.0.2:{server.port}/a")
        await web.close()


DISGUISES = [
    "http://127.0.0.1/",
    "http://localhost/",
    "http://localhost./",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://①②⑦.0.0.1/",
    "http://127。0。0。1/",
    "http://0.0.0.0/",
    "http://0/",
    "http://[::1]/",
    "http://[::]/",
    "http://[0:0:0:0:0:ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[fe80::1]/",
    "http://[fc00::1]/",
    "http://[fd00:ec2::254]/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[::ffff:169.254.169.254]/",
    "http://2852039166/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://192.0.2.1/",
    "http://user:pass@example.com/",
    "http://example.com@127.0.0.1/",
    "http://127.0.0.1#@example.com/",
    "http://127.0.0.1\\@example.com/",
    "http://example.com:22/",
    "http://example.com:6379/",
    "http://example.com:0/",
    "http://example.com:99999/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_x",
    "dict://127.0.0.1/",
    "unix:///var/run/docker.sock",
    "//127.0.0.1/",
    "http:///",
    "http://",
    "",
    "not a url",
    "http://exa mple.com/",
    "http://127.0.0.1\r\nHost: x/",
    "http://" + "a" * 10_000 + "/",
    "http://xn--/",
]


@pytest.mark.parametrize("url", DISGUISES)
async def test_private_addresses_in_every_disguise(url: str) -> None:
    # Every public host is allowed here: only the guard stands between.
    caller = GuardedHttpCaller(Reach(None))
    web = GuardedWebFetcher(Reach(("*.example.com", "example.com", "127.0.0.9")))
    try:
        with pytest.raises(ToolError):
            await caller.call(HttpBinding("GET", url), {}, CONTEXT, keyed=False)
        with pytest.raises(ToolError):
            await web.get(url)
    finally:
        await caller.close()
        await web.close()


async def test_a_name_that_changes_its_address_after_the_check(server: Server) -> None:
    """DNS rebinding: the first answer is public, each later one is loopback."""
    answers = iter(["93.184.216.34"])
    asked: list[str] = []

    def resolver(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [(2, 1, 6, "", (next(answers, "127.0.0.1"), port))]

    caller = GuardedHttpCaller(Reach(None, ports=(server.port,)), resolver=resolver)
    url = f"http://rebind.example:{server.port}/"
    for _ in range(2):
        with pytest.raises((ToolError, OutcomeUnknown, TimeoutError)):
            async with asyncio.timeout(1):
                await caller.call(HttpBinding("GET", url), {}, CONTEXT, keyed=False)
    await caller.close()
    assert asked
    assert server.requests == []


class TestCalling:
    def binding(self, server: Server, path: str = "/x", method: str = "POST") -> HttpBinding:
        return HttpBinding(method, f"{server.url}{path}")

    async def test_json_there_and_back(self, server: Server, caller: GuardedHttpCaller) -> None:
        server.answer("/x", '{"id": 7}', type_="application/json")
        answer = await caller.call(self.binding(server), {"to": "ann"}, CONTEXT, keyed=False)
        assert answer == {"status": 200, "body": {"id": 7}}
        head, _, body = server.requests[0].partition("\r\n\r\n")
        assert json.loads(body) == {"to": "ann"}
        assert "idempotency-key" not in head.lower()

    async def test_cookies_are_not_kept(self, server: Server, caller: GuardedHttpCaller) -> None:
        server.answer("/x", "ok", set_cookie="session=of-another-tenant; Path=/")
        for _ in range(2):
            await caller.call(self.binding(server), {}, CONTEXT, keyed=False)
        assert "cookie" not in server.requests[1].lower()

    async def test_the_key_is_sent(self, server: Server, caller: GuardedHttpCaller) -> None:
        server.answer("/x", "ok")
        await caller.call(self.binding(server), {}, CONTEXT, keyed=True)
        assert "idempotency-key: eff_1\r\n" in server.requests[0].lower()

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            ("400 Bad Request", ToolFailed),
            ("401 Unauthorized", ToolFailed),
            ("404 Not Found", ToolNotFound),
            ("410 Gone", ToolNotFound),
            ("429 Too Many Requests", ServiceDown),
            ("500 Internal Server Error", OutcomeUnknown),
            ("502 Bad Gateway", OutcomeUnknown),
            ("504 Gateway Timeout", OutcomeUnknown),
            ("503 Service Unavailable", ServiceDown),
            ("302 Found", ToolFailed),
        ],
    )
    async def test_other_statuses_say_whether_it_was_done(
        self, server: Server, caller: GuardedHttpCaller, status: str, kind: type[ToolError | OutcomeUnknown]
    ) -> None:
        server.answer("/x", "no such thing", status, location="http://127.0.0.1/")
        with pytest.raises(kind, match=f"answered {status[:3]}: no such thing") as failed:
            await caller.call(self.binding(server), {}, CONTEXT, keyed=False)
        assert type(failed.value) is kind
        assert len(server.requests) == 1

    @pytest.mark.parametrize("body", ["{", "[" * 200_000, "{}x", "\xff"])
    async def test_broken_json_does_not_say_that_nothing_was_done(
        self, server: Server, caller: GuardedHttpCaller, body: str
    ) -> None:
        server.answer("/x", body.encode("latin-1"), type_="application/json")
        with pytest.raises(OutcomeUnknown, match="cannot be read"):
            await caller.call(self.binding(server), {}, CONTEXT, keyed=False)

    async def test_a_compression_that_is_not_known_does_not_either(
        self, server: Server, caller: GuardedHttpCaller
    ) -> None:
        server.answer("/x", "plain", content_encoding="br")
        with pytest.raises(OutcomeUnknown, match="compression"):
            await caller.call(self.binding(server), {}, CONTEXT, keyed=False)

    async def test_a_refused_connection_was_not_sent(self, server: Server, caller: GuardedHttpCaller) -> None:
        with pytest.raises(ServiceDown, match="cannot be reached"):
            await caller.call(HttpBinding("POST", "http://127.0.0.1:80/x"), {}, CONTEXT, keyed=False)

    @pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nab", b"junk\r\n\r\n"])
    async def test_an_answer_that_breaks_off_is_unknown(
        self, server: Server, caller: GuardedHttpCaller, begun: bytes
    ) -> None:
        async def break_off(writer: asyncio.StreamWriter) -> None:
            writer.write(begun)
            await writer.drain()
            writer.close()

        server.answers["/x"] = break_off
        with pytest.raises(OutcomeUnknown, match="connection"):
            await caller.call(self.binding(server), {}, CONTEXT, keyed=False)


@pytest.mark.parametrize("entry", ["", "*", "a*.example", "exa mple", "http://a.example/"])
def test_nonsense_in_the_list_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Reach((entry,)).policy(redirects=0)


def _traceparent(server: Server) -> str:
    return dict(re.findall(r"(?m)^([\w-]+): (.*)\r$", server.requests[0]))["traceparent"]


async def test_the_service_learns_the_trace_that_calls_it_and_the_trace_where_it_went(
    web: GuardedWebFetcher, server: Server, spans: RecordedSpans
) -> None:
    server.answer("/item", "a lamp")
    server.answer("/broken", "no", status="500 Internal Server Error")
    with tracer("test").start_as_current_span("execute_tool http_get"):
        for path in ("/item?name=ada", "/broken"):
            await web.get(server.url + path)
    asked, broken, step = spans.ended
    assert asked.parent is not None
    assert asked.parent.span_id == step.context.span_id
    called_by = get_current_span(received_trace({"traceparent": _traceparent(server)})).get_span_context()
    assert (called_by.trace_id, called_by.span_id) == (asked.context.trace_id, asked.context.span_id)
    assert called_by.trace_flags.sampled
    assert "baggage" not in server.requests[0]
    attributes = dict(asked.attributes or {})
    assert attributes["server.address"] == "127.0.0.1"
    assert attributes["http.response.status_code"] == 200
    assert "ada" not in str(attributes), "what was asked for may be anything"
    assert broken.status.status_code is StatusCode.ERROR


async def test_a_call_that_is_refused_or_lost_is_an_error_without_its_address(
    web: GuardedWebFetcher, server: Server, spans: RecordedSpans
) -> None:
    with tracer("test").start_as_current_span("execute_tool http_get"), pytest.raises(ToolDenied):
        await web.get("http://10.0.0.1/ada")
    refused = spans.ended[0]
    assert refused.status.status_code is StatusCode.ERROR
    assert "ada" not in str(refused.to_json())


async def test_a_service_learns_that_its_call_is_not_told(
    web: GuardedWebFetcher, server: Server, spans: RecordedSpans
) -> None:
    server.answer("/item", "a lamp")
    with spans.counting(), kept_span(tracer("test"), "execute_tool http_get"):
        await web.get(f"{server.url}/item")
    assert spans.ended == []
    called_by = get_current_span(received_trace({"traceparent": _traceparent(server)})).get_span_context()
    assert called_by.is_valid
    assert not called_by.trace_flags.sampled
