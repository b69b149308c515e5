"""Text from strangers, made fit to be shown: nothing in it acts, hides or turns around.

Markup is the template's affair (it escapes everything). Here go the characters that would drive a
terminal that the text is copied into, or that would make it read otherwise than it is written.
"""

import re
import unicodedata

from markupsafe import Markup

_INVISIBLE = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
"""Unicode's categories of control, format, private, surrogate and separator characters."""
_CONTRACT = ("code", "input_images", "output_images", "output_data", "tmp")
_PATH = re.compile(r"(?<![\w.<])/(?!(?:" + "|".join(_CONTRACT) + r")\b)(?:[^\s/'\":,;()]+/)+")


def printable(content: bytes) -> str:
    r"""`content` as text of printable characters, tabs and line ends.

    Control and other invisible characters, and bytes that are no UTF-8, become escapes such as
    `\x1b`; a carriage return before a line end is dropped.
    """
    text = content.decode(errors="backslashreplace").replace("\r\n", "\n")
    return "".join(character if character in "\n\t" else _shown(character) for character in text)


def tail(content: bytes, *, most_bytes: int) -> bytes:
    """The last whole lines of `content` that fit; of a longer last line, its end."""
    if len(content) <= most_bytes:
        return content
    end = content[-most_bytes:]
    _, line_end, whole = end.partition(b"\n")
    return whole if line_end and whole.strip() else end


def without_host_paths(text: str) -> str:
    """`text` with the folders of absolute paths left out, but for those that the contract names.

    A message about a submission may quote where the organiser keeps it.
    """
    return _PATH.sub("…/", text)


def breakable(name: str) -> Markup:
    """A name as markup, escaped, that a line may break after its separators."""
    return Markup("<wbr>").join(re.split(r"(?<=[._-])(?=.)", name))


def _shown(character: str) -> str:
    if unicodedata.category(character) in _INVISIBLE:
        return character.encode("unicode_escape").decode()
    return character
