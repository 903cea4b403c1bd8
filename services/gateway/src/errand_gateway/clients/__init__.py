"""gRPC adapters of the domain's ports."""
