"""gRPC: servers and channels that all services are built with."""
