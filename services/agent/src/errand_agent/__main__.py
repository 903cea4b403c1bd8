"""`python -m errand_agent serve|migrate|check-config`."""

import sys

from errand_common.main import run_service

from errand_agent.app import migrate, serve
from errand_agent.settings import AgentSettings

if __name__ == "__main__":
    sys.exit(run_service("errand_agent", AgentSettings, serve, migrate))
