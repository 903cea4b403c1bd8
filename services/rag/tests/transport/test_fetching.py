"""Documents by URL: what is allowed is fetched and found, all else is refused with its reason."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from errand.rag.v1 import rag_pb2
from errand_common.errors import ErrandError, InvalidArgument, NotFound, TooLarge, Unavailable, Unsupported
from errand_common.testing.keys import TestKeys, free_port
from errand_rag.settings import RagSettings
from errand_rag.testing.client import RagClient
from errand_rag.testing.embedder import HashingEmbedder
from errand_rag.testing.service import serving_rag

PAGE = (
    b"<html><head><title>Sea</title><script>var key = 'secretword'</script></head>"
    b"<body><p>A blue whale.</p></body></html>"
)


def answer(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{head}\r\n".encode() + body


PAGES: dict[str, bytes] = {
    "/guide/whale%20song.html?signature=abc": answer(PAGE, content_type="text/html"),
    "/large": answer(b"x" * 5000),
    "/bomb": answer(gzip.compress(b"x" * 50_000_000), content_encoding="gzip"),
    "/broken": answer(b"nothing of gzip", content_encoding="gzip"),
    "/brotli": answer(b"x", content_encoding="br"),
    "/empty": answer(b""),
    "/away": answer(b"", "503 Service Unavailable"),
    "/inside": answer(b"", "302 Found", location="http://10.0.0.1/secret"),
    "/round": answer(b"", "302 Found", location="/round"),
    "/back": answer(b"", "302 Found", location="/guide/whale%20song.html?signature=abc"),
}


@pytest.fixture
async def origin() -> AsyncIterator[str]:
    """A web server on loopback."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[1]
        if path == "/slow":
            await reader.read()  # until the client goes away
        writer.write(PAGES.get(path, answer(b"no", "404 Not Found")))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


@asynccontextmanager
async def serving(settings: RagSettings, keys: TestKeys, *hosts: str) -> AsyncIterator[RagClient]:
    chosen = {"fetch_hosts": hosts, "max_document_bytes": 4096, "fetch_timeout_seconds": 4}
    made = RagSettings(**{**settings.model_dump(), **chosen})
    async with serving_rag(made, keys, embedder=HashingEmbedder()) as client:
        await client.collection("shelf")
        yield client


async def fetch(client: RagClient, url: str, **fields: object) -> rag_pb2.FetchDocumentResponse:
    request = rag_pb2.FetchDocumentRequest(collection_id="shelf", url=url, **fields)  # type: ignore[arg-type]
    with client.calling() as stub:
        return await stub.FetchDocument(request)


async def test_a_page_is_fetched_and_found_by_its_words_alone(
    settings: RagSettings, keys: TestKeys, origin: str
) -> None:
    async with serving(settings, keys, origin) as client:
        metadata = {"team": rag_pb2.MetadataValue(string_value="sea")}
        stored = await fetch(client, f"http://{origin}/guide/whale%20song.html?signature=abc", metadata=metadata)
        document = await client.settled(stored.document.id)
        assert document.state == rag_pb2.DOCUMENT_STATE_READY
        assert (document.filename, document.title) == ("127.0.0.1 - guide - whale song.html", "Sea")
        assert document.metadata["team"].string_value == "sea"
        assert (await client.search("blue whale", "shelf")).hits[0].text == "A blue whale."
        assert not (await client.search("secretword", "shelf", mode=rag_pb2.SEARCH_MODE_KEYWORD)).hits
        assert (await fetch(client, f"http://{origin}/back", filename="x.html")).duplicate
        nowhere = rag_pb2.FetchDocumentRequest(collection_id="gone", url=f"http://{origin}/back")
        with pytest.raises(NotFound), client.calling() as stub:
            await stub.FetchDocument(nowhere)


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("http://{origin}/missing", InvalidArgument, "404"),
        ("http://{origin}/empty", InvalidArgument, "nothing"),
        ("http://{origin}/large", TooLarge, "4096"),
        ("http://{origin}/bomb", TooLarge, "4096"),
        ("http://{origin}/broken", InvalidArgument, "cannot be read"),
        ("http://{origin}/brotli", InvalidArgument, "cannot be read"),
        ("http://{origin}/away", Unavailable, "503"),
        ("http://{origin}/slow", Unavailable, "longer than 4 s"),
        ("http://{origin}/inside", InvalidArgument, "allowed"),
        ("http://{origin}/round", InvalidArgument, "redirects"),
        ("http://user:word@{origin}/back", InvalidArgument, "password"),
        ("http://2130706433/back", InvalidArgument, "disguise"),
        ("http://example.com/", InvalidArgument, "allowed hosts"),
        ("http://169.254.169.254/latest/meta-data", InvalidArgument, "allowed"),
        ("file:///etc/passwd", InvalidArgument, "URL"),
        ("ftp://{origin}/x", InvalidArgument, "http"),
        ("http://[::1/x", InvalidArgument, "URL"),
        ("nonsense", InvalidArgument, "URL"),
    ],
)
async def test_what_may_not_be_fetched_is_refused_and_stores_nothing(
    settings: RagSettings, keys: TestKeys, origin: str, url: str, error: type[ErrandError], words: str
) -> None:
    async with serving(settings, keys, origin) as client:
        with pytest.raises(error) as raised:
            await fetch(client, url.format(origin=origin))
        assert words in raised.value.message
        if error is InvalidArgument:
            assert raised.value.metadata["field"] == "url"
        with client.calling() as stub:
            listed = await stub.ListDocuments(rag_pb2.ListDocumentsRequest(collection_id="shelf"))
        assert not listed.documents


async def test_a_server_that_is_not_there_is_unavailable(settings: RagSettings, keys: TestKeys) -> None:
    gone = f"127.0.0.1:{free_port()}"
    async with serving(settings, keys, gone) as client:
        with pytest.raises(Unavailable):
            await fetch(client, f"http://{gone}/x")


async def test_private_addresses_stay_out_of_reach_when_all_public_hosts_are_open(
    settings: RagSettings, keys: TestKeys, origin: str
) -> None:
    async with serving(settings, keys, "*") as client:
        for host in (origin, "localhost:80", "10.0.0.1", "[::1]", "[::ffff:127.0.0.1]"):
            with pytest.raises(InvalidArgument):
                await fetch(client, f"http://{host}/back")


async def test_nothing_is_fetched_unless_the_operator_names_hosts(
    settings: RagSettings, keys: TestKeys, origin: str
) -> None:
    async with serving(settings, keys) as client:
        with pytest.raises(Unsupported, match="operator"):
            await fetch(client, f"http://{origin}/back")


@pytest.mark.parametrize(
    ("name", "value"), [("fetch_hosts", ["no host!"]), ("fetch_private_networks", ["169.254.0.0/16"])]
)
def test_settings_that_open_too_much_are_refused(settings: RagSettings, name: str, value: list[str]) -> None:
    with pytest.raises(ValueError, match=name):
        RagSettings(**{**settings.model_dump(), name: value})
