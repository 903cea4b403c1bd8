"""Collections, ingestion and hybrid search."""
