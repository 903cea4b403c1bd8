"""What the rag service does, free of transports, databases and model runtimes."""
