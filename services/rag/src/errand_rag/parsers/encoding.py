"""Characters out of bytes."""

import codecs

from charset_normalizer import from_bytes

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_TEXT_CONTROLS = frozenset("\t\n\r\x0b\x0c\x1b\x85")
_MAX_BROKEN_SHARE = 0.05
_SAMPLE_BYTES = 262_144


def decode(content: bytes) -> str | None:
    """The text, or None when these bytes are none.

    Mostly sound UTF-8 stays UTF-8, its broken bytes replaced; else the likeliest encoding counts.
    """
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            return _if_text(content.decode(encoding, "replace"))
    try:
        return _if_text(content.decode("utf-8"))
    except UnicodeDecodeError:
        pass
    if b"\x00" in content[:_SAMPLE_BYTES]:
        return None
    # A few broken bytes among many multi-byte characters: damaged UTF-8, not another encoding.
    replaced = content.decode("utf-8", "replace")
    broken = replaced.count("\ufffd")
    multibyte = sum(1 for c in replaced if ord(c) > 127) - broken
    if broken <= multibyte * _MAX_BROKEN_SHARE * 2:
        return _if_text(replaced)
    best = from_bytes(content[:_SAMPLE_BYTES]).best()
    if best is not None:
        return _if_text(content.decode(best.encoding, "replace"))
    return _if_text(replaced) if broken <= len(replaced) * _MAX_BROKEN_SHARE else None


def _if_text(text: str) -> str | None:
    sample = text[:_SAMPLE_BYTES]
    odd = sum(1 for c in sample if c < " " and c not in _TEXT_CONTROLS) + sample.count("\ufffd")
    return text if odd <= len(sample) * _MAX_BROKEN_SHARE else None
