"""Chat."""

from __future__ import annotations

from typing import Annotated, Any

import typer

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
        elif name == "ended":
            _print_end(data)
        elif name == "error":
            raise ApiError(f"{data.get('code')}: {data.get('message')}")


def _print_end(run: dict[str, Any]) -> None:
    out.print(run.get("answer", ""), markup=False)
    for citation in run.get("citations", []):
        out.print(f"[dim]\\[{citation['number']}] {citation['title']}[/dim]", highlight=False)
