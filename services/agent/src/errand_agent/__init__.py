"""Durable ReAct runs, conversations and agents."""
