"""The gRPC side of the agent service."""
