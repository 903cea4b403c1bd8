"""Alembic migrations of the agent service."""
