"""Tool registry, sandboxed execution, effect ledger."""
