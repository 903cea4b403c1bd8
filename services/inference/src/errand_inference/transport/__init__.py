"""The gRPC side of the inference service."""
