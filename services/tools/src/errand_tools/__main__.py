"""errand_tools serve | migrate | check-config."""

import sys

from errand_common.main import run_service

from errand_tools.app import migrate, serve
from errand_tools.settings import ToolsSettings


def main() -> int:
    """Runs the command named on the command line."""
    return run_service("errand_tools", ToolsSettings, serve, migrate)


if __name__ == "__main__":
    sys.exit(main())
