"""The other services, as the domain's ports."""
