"""Secrets from the RPC to the header of a real request, and into nothing else."""

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from errand.tools.v1 import tools_pb2
from errand_common.errors import InvalidArgument, PermissionDenied

VALUE = "tok-0123456789"
SCHEMA = '{"type": "object", "properties": {"q": {"type": "string"}, "note": {"type": "object"}}}'


def put(**more: Any) -> tools_pb2.PutSecretRequest:
    return tools_pb2.PutSecretRequest(**{"name": "key", "value": VALUE, **more})


def tool(port: int, **binding: Any) -> tools_pb2.RegisterToolRequest:
    auth = tools_pb2.HttpAuth(scheme=tools_pb2.HTTP_AUTH_SCHEME_BEARER, secret="key")
    http = tools_pb2.HttpBinding(
        **{"method": "GET", "url_template": f"http://127.0.0.1:{port}/x", "auth": auth, **binding}
    )
    side_effect = tools_pb2.SIDE_EFFECT_NONE
    return tools_pb2.RegisterToolRequest(
        tool=tools_pb2.Tool(name="ask", description="Asks.", parameters_json=SCHEMA, http=http, side_effect=side_effect)
    )


async def test_a_secret_is_sent_and_not_told(near: Any, endpoint: Any, tmp_path: Path, capfd: Any) -> None:
    stored = (await near.call("PutSecret", put(hosts=["127.0.0.1"]))).secret
    assert (stored.name, list(stored.hosts)) == ("key", ["127.0.0.1"])
    await near.call("RegisterTool", tool(endpoint.port))
    status, result = await near.execute("ask", q="hello")
    assert status == tools_pb2.EXECUTION_STATUS_SUCCEEDED
    assert endpoint.requests[0]["headers"]["authorization"] == f"Bearer {VALUE}"
    assert result["body"]["headers"]["authorization"] == "Bearer [secret]"
    listed = await near.call("ListSecrets", tools_pb2.ListSecretsRequest())
    assert [secret.name for secret in listed.secrets] == ["key"]
    found = await near.call("GetTool", tools_pb2.GetToolRequest(name="ask"))
    assert found.tool.http.auth.secret == "key"
    told = f"{listed}{found}{''.join(capfd.readouterr())}"
    on_disk = b"".join((tmp_path / name).read_bytes() for name in os.listdir(tmp_path) if "tools.db" in name)
    assert VALUE not in told
    assert VALUE.encode() not in on_disk
    assert (tmp_path / "tools-secrets.key").stat().st_mode & 0o777 == 0o600


async def test_a_deleted_secret_denies_its_tools(near: Any, endpoint: Any) -> None:
    await near.call("PutSecret", put())
    await near.call("RegisterTool", tool(endpoint.port))
    await near.call("DeleteSecret", tools_pb2.DeleteSecretRequest(name="key"))
    status, result = await near.execute("ask")
    assert status == tools_pb2.EXECUTION_STATUS_DENIED
    assert "credentials are missing" in result["error"]
    assert endpoint.requests == []


async def test_a_row_that_was_moved_does_not_open(near: Any, endpoint: Any, tmp_path: Path) -> None:
    await near.call("PutSecret", put())
    await near.call("PutSecret", put(name="other", value="something else"))
    await near.call("RegisterTool", tool(endpoint.port))
    with sqlite3.connect(tmp_path / "tools.db") as database:
        database.execute("UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE name='other') WHERE name='key'")
    database.close()
    status, _ = await near.execute("ask")
    assert status == tools_pb2.EXECUTION_STATUS_DENIED


async def test_tools_with_a_wrong_reference_are_refused(near: Any, endpoint: Any) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await near.call("RegisterTool", tool(endpoint.port))
    assert refused.value.metadata["field"] == "tool.http.auth.secret"
    await near.call("PutSecret", put(hosts=["api.example"]))
    with pytest.raises(InvalidArgument, match="host"):
        await near.call("RegisterTool", tool(endpoint.port))


async def test_another_tenant_sees_and_uses_nothing(near: Any, endpoint: Any) -> None:
    await near.call("PutSecret", put())
    assert not (await near.call("ListSecrets", tools_pb2.ListSecretsRequest(), tenant="t2")).secrets
    with pytest.raises(InvalidArgument):
        await near.call("RegisterTool", tool(endpoint.port), tenant="t2")
    with pytest.raises(PermissionDenied):
        await near.call("ListSecrets", tools_pb2.ListSecretsRequest(), roles=("user",))


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (put(name="no spaces"), "name"),
        (put(value=""), "value"),
        (put(value="a\nb"), "value"),
        (put(value="x" * 8193), "value"),
    ],
)
async def test_wrong_secrets_are_refused(near: Any, request_: tools_pb2.PutSecretRequest, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        await near.call("PutSecret", request_)
    assert refused.value.metadata["field"] == field


async def test_a_body_and_a_query_are_told_apart(near: Any, endpoint: Any) -> None:
    await near.call("PutSecret", put())
    binding = {"method": "POST", "query_arguments": ["q"], "body_argument": "note"}
    await near.call("RegisterTool", tool(endpoint.port, **binding))
    await near.execute("ask", q="a b", note={"k": [1]})
    assert (endpoint.requests[0]["target"], endpoint.requests[0]["body"]) == ("/x?q=a+b", {"k": [1]})


async def test_a_tenant_is_erased_whole(near: Any, endpoint: Any, tmp_path: Path) -> None:
    for tenant in ("t1", "t2"):
        await near.call("PutSecret", put(hosts=["127.0.0.1"]), tenant)
        await near.call("RegisterTool", tool(endpoint.port), tenant)
    await near.execute("ask", q="hello")
    disabled = tools_pb2.SetToolEnabledRequest(name="calculator", enabled=False)
    await near.call("SetToolEnabled", disabled)
    request = tools_pb2.EraseTenantRequest(tenant_id="t1")
    with pytest.raises(PermissionDenied):
        await near.call("EraseTenant", request, "t1", ("developer",))
    with pytest.raises(InvalidArgument):
        await near.call("EraseTenant", request, "t2")
    erased = (await near.call("EraseTenant", request)).erased
    assert {"tools": 1, "secrets": 1, "disabled_builtins": 1, "tool_usage": 1}.items() <= dict(erased).items()
    assert not (await near.call("EraseTenant", request)).erased
    with sqlite3.connect(tmp_path / "tools.db") as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert VALUE not in "\n".join(database.iterdump())
        for table in tables:
            if "tenant_id" in {row[1] for row in database.execute(f"PRAGMA table_info({table})")}:
                assert database.execute(f"SELECT * FROM {table} WHERE tenant_id = 't1'").fetchall() == []
    listed = await near.call("ListSecrets", tools_pb2.ListSecretsRequest(), "t2")
    assert [secret.name for secret in listed.secrets] == ["key"]
