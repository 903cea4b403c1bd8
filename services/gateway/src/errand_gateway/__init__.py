"""The public door: REST, auth, tenants, limits."""
