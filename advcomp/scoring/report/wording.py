"""Names and messages as the pages show them."""

import re

from markupsafe import Markup

_CONTRACT = ("code", "input_images", "output_images", "output_data", "tmp")
_FOLDERS = re.compile(rf"(?<![\w.<])/(?!(?:{'|'.join(_CONTRACT)})\b)(?:[^\s/'\":,;()]+/)+")


def without_host_paths(text: str) -> str:
    """`text` with the folders of absolute paths left out, but for those that the contract names.

    A message about a submission may quote where the organiser keeps it.
    """
    return _FOLDERS.sub("\N{HORIZONTAL ELLIPSIS}/", text)


def breakable(name: str) -> Markup:
    """A name as markup, escaped, that a line may break after its separators."""
    return Markup("<wbr>").join(re.split(r"(?<=[._-])(?=.)", name))
