"""Text of strangers made harmless wherever it is shown."""

_KEPT = "\n\t"


def printable(text: str | bytes) -> str:
    """`text` with every character that could steer a terminal, or hide, written as an escape.

    Line breaks and tabs stay. Control characters, bytes that are no UTF-8, and invisible or
    direction-changing characters become `\\x1b`, `\\u202e` and the like.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "backslashreplace")
    text = text.replace("\r\n", "\n")
    return "".join(c if c.isprintable() or c in _KEPT else ascii(c)[1:-1] for c in text)
