"""gRPC: converts messages to calls of the domain and back."""
