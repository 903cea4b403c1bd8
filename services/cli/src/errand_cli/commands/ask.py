"""Chat."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from errand_cli.client import ApiError
from errand_cli.commands.options import DataDir, Key, Url, client_of, out

app = typer.Typer()


@app.command()
def chat(
    message: str,
    data_dir: DataDir = None,
    url: Url = "",
    key: Key = "",
    agent: Annotated[str, typer.Option(help="agent to ask; default the default one")] = "",
    conversation: Annotated[str, typer.Option(help="conversation to go on with")] = "",
) -> None:
    """Ask an agent and watch it work."""
    for name, data in client_of(data_dir, url, key).chat(message, agent=agent, conversation_id=conversation):
        if name == "step" and data.get("kind") not in ("answer", "ANSWER"):
            out.print(f"[dim]{data.get('kind', '')}: {data.get('summary', '')}[/dim]", highlight=False)
        elif name == "tool_progress":
            out.print(f"[dim]{escape(_progress(data))}[/dim]", highlight=False)
        elif name == "ended":
            _print_end(data)
        elif name == "error":
            raise ApiError(f"{data.get('code')}: {data.get('message')}")


def _progress(told: dict[str, Any]) -> str:
    """'import.rows: 40 of 100, reading (3 s)': of a tool that says nothing only how long it runs."""
    amount = f"{told['done']:g} of {told['total']:g}" if told.get("total") else ""
    said = ", ".join(part for part in (amount, str(told.get("message", ""))) if part)
    return f"{told.get('tool_name', '')}: {said or 'runs'} ({told.get('elapsed_ms', 0) / 1000:.0f} s)"


def _print_end(run: dict[str, Any]) -> None:
    out.print(run.get("answer", ""), markup=False)
    for citation in run.get("citations", []):
        out.print(f"[dim]\\[{citation['number']}] {citation['title']}[/dim]", highlight=False)
