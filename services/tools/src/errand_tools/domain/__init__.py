"""The tools service's rules: pure, without transport, database or network."""
