"""OpenAI's wire format, to and fro."""
