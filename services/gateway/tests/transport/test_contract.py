"""The OpenAPI description against the gateway: no 5xx, nothing that the description does not say."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
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

PHASES = os.environ.get("ERRAND_CONTRACT_PHASES", "fuzzing")
EXAMPLES = os.environ.get("ERRAND_CONTRACT_EXAMPLES", "1")


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


@pytest.mark.timeout(3600)
def test_answers_are_as_described(served: dict[str, str], tmp_path: Path) -> None:
    """schemathesis over every operation; what it cannot know (which page tokens exist) is not checked.

    `make contract` asks for much more of the same.
    """
    command = [
        str(Path(sys.executable).parent / "schemathesis"), "run", f"{served['url']}/openapi.json",
        "--header", f"X-API-Key: {served['key']}", "--checks", ",".join(CHECKS),
        "--phases", PHASES, "--max-examples", EXAMPLES,
        "--generation-deterministic", "--no-shrink", "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=3500, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    selected, tested = re.findall(r"(?:Selected|Tested): (\d+)", done.stdout)
    assert int(tested) == int(selected) > 150


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


async def test_every_answer_has_an_example_that_fits(gateway: RunningGateway) -> None:
    components = gateway.app.openapi()["components"]
    answers = 0
    for name, operation in operations(gateway):
        for status, response in operation["responses"].items():
            content = response.get("content", {}).get("application/json")
            if not status.startswith("2") or content is None:
                continue
            assert "example" in content, name
            whole = {**content.get("schema", {}), "components": components}
            problems = [
                error.message for error in jsonschema.Draft202012Validator(whole).iter_errors(content["example"])
            ]
            assert not problems, (name, problems)
            answers += 1
    assert answers > 100


async def test_every_body_has_an_example(gateway: RunningGateway) -> None:
    schemas = gateway.app.openapi()["components"]["schemas"]
    for name, operation in operations(gateway):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content:
            schema = schemas[content["schema"]["$ref"].rsplit("/", 1)[1]]
            assert schema.get("examples"), name
            whole = {**schema, "components": {"schemas": schemas}}
            for example in schema["examples"]:
                jsonschema.Draft202012Validator(whole).validate(example)
