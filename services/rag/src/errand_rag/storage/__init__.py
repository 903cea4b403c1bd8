"""Tables, queries and vectors of the rag service."""
