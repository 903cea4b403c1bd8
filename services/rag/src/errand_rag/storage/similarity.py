"""Cosine similarity."""

from typing import Any

import numpy as np

from errand_rag.domain.models import Vector


def cosines(stored: "np.ndarray[Any, np.dtype[np.float32]]", vector: Vector) -> list[float]:
    """Cosine similarity of each stored vector to one; 0 for a vector of zeros."""
    if not len(stored):
        return []
    query = np.asarray(vector, dtype=np.float32)
    norms = np.linalg.norm(stored, axis=1) * np.linalg.norm(query)
    dots = stored @ query
    return [bounded(float(dot / norm)) if norm else 0.0 for dot, norm in zip(dots, norms, strict=True)]


def bounded(similarity: float) -> float:
    """A similarity that rounding took past its range is brought back."""
    # Rounding takes a vector's similarity to itself a little past 1; zeros give no number.
    return max(-1.0, min(1.0, similarity)) if similarity == similarity else 0.0  # noqa: PLR0124
