"""`errand chat` shows what a run does while it does it."""

import httpx
import pytest
import respx
from errand_cli.commands.ask import app
from typer.testing import CliRunner

_PROGRESS = '{{"tool_name":"crm.export","call_index":0,"message":"{}","done":{},"total":{},"elapsed_ms":3400}}'


@pytest.mark.parametrize(
    ("message", "done", "total", "shown"),
    [
        ("[red]reading", 40, 100, "crm.export: 40 of 100, [red]reading (3 s)"),
        ("", 0, 0, "crm.export: runs (3 s)"),
        ("reading", 7, 0, "crm.export: reading (3 s)"),
    ],
)
@respx.mock
def test_how_far_a_tool_is_is_shown(message: str, done: int, total: int, shown: str) -> None:
    progress = _PROGRESS.format(message, done, total)
    stream = f'event: tool_progress\nid: 1\ndata: {progress}\n\nevent: ended\nid: 2\ndata: {{"answer":"42"}}\n\n'
    respx.post("http://gateway/api/v1/chat").mock(return_value=httpx.Response(200, text=stream))
    result = CliRunner().invoke(app, ["What?", "--url", "http://gateway", "--key", "key"])
    assert result.output == f"{shown}\n42\n"
