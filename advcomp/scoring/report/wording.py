"""Names and messages as the pages show them."""

import re

from markupsafe import Markup

from advcomp.scoring.leaderboard import Cell
from advcomp.scoring.paired import Difference
from advcomp.scoring.results import Entry

NOTHING = "\N{EN DASH}"
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


def rate(value: Cell) -> str:
    """A rate with three decimals, a count with separators, nothing as a dash."""
    if isinstance(value, float):
        return f"{round(value, 3) + 0.0:.3f}"
    return f"{value:,}" if isinstance(value, int) else NOTHING


def signed(value: Cell) -> str:
    """A difference of rates with its sign."""
    return f"{round(value, 3) + 0.0:+.3f}" if isinstance(value, float) else NOTHING


def gap(difference: Difference | None) -> str:
    """A difference with its interval: `+0.123 [+0.100, +0.150]`."""
    if difference is None:
        return NOTHING
    if difference.low is None:
        return signed(difference.difference)
    low, high = signed(difference.low), signed(difference.high)
    return f"{signed(difference.difference)} [{low}, {high}]"


def content(entry: Entry | None, name: str) -> str:
    """An entry by its digest, and its name where that is another."""
    if entry is None:
        return NOTHING
    digest = entry.digest[:12] or "no copy"
    return digest if entry.name == name else f"{digest}, as {entry.name}"


def setting(value: str | None) -> str:
    """A setting's value; a dash where there is none."""
    return NOTHING if value is None else value
