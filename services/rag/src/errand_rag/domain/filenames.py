"""File names from strangers."""

import unicodedata

MAX_FILENAME_CHARACTERS = 255


def safe_filename(name: str) -> str:
    """The last part of a path, without control characters; never empty, '.' or '..'."""
    normalised = unicodedata.normalize("NFC", name).replace("\\", "/")
    last = normalised.rstrip("/").rpartition("/")[2]
    # Category C holds control, format (right-to-left override among them) and unassigned characters.
    visible = "".join(c for c in last if unicodedata.category(c)[0] != "C").strip()
    if visible.strip(".") == "":
        return "document"
    return visible[-MAX_FILENAME_CHARACTERS:]
