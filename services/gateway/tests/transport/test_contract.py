"""The OpenAPI description against the gateway: no 5xx, nothing that the description does not say."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from errand_gateway.testing.gateway import RunningGateway

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
    "unsupported_method",
)


@pytest.fixture(scope="module")
def served() -> Iterator[dict[str, str]]:
    """A gateway in a process of its own: the checks' client blocks."""
    process = subprocess.Popen([sys.executable, "-m", "errand_gateway.testing"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()


def test_answers_are_as_described(served: dict[str, str], tmp_path: Path) -> None:
    """schemathesis over every operation; what it cannot know (which page tokens exist) is not checked."""
    command = [
        str(Path(sys.executable).parent / "schemathesis"), "run", f"{served['url']}/openapi.json",
        "--header", f"X-API-Key: {served['key']}", "--checks", ",".join(CHECKS),
        "--phases", "examples,fuzzing", "--max-examples", "2", "--max-time", "12",
        "--generation-deterministic", "--no-shrink", "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "Tested: " in done.stdout


def operations(gateway: RunningGateway) -> Iterator[tuple[str, dict[str, Any]]]:
    """All described operations by method and path."""
    for path, methods in gateway.app.openapi()["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


async def test_every_operation_is_explained(gateway: RunningGateway) -> None:
    for name, operation in operations(gateway):
        assert operation.get("summary"), name
        assert operation.get("description"), name
        if "/api/v1" in name or "/v1/" in name:
            assert {"401", "403", "429", "503"} <= set(operation["responses"]), name
            assert operation.get("security") or "/auth/" in name, name


async def test_every_body_has_an_example(gateway: RunningGateway) -> None:
    schemas = gateway.app.openapi()["components"]["schemas"]
    for name, operation in operations(gateway):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content:
            schema = schemas[content["schema"]["$ref"].rsplit("/", 1)[1]]
            assert schema.get("examples"), name
