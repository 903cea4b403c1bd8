"""What every Errand service shares: settings, errors, tokens, rpc, database, telemetry."""
