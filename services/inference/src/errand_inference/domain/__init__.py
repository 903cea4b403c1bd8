"""What the inference service does, free of transport and engines."""
