"""An MCP server over stdio, run as a process by the tests."""

import os

from mcp.server import MCPServer

server = MCPServer("stdio")


@server.tool()
def whoami() -> dict[str, int]:
    """Tells the process."""
    return {"pid": os.getpid()}


@server.tool()
def crash() -> str:
    """Ends the process before it answers."""
    os._exit(1)


server.run("stdio")
