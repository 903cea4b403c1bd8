"""Readers of document formats. They run in a process of their own: the bytes come from strangers."""
