"""Names and messages as the pages show them."""

import re
from collections.abc import Mapping

from markupsafe import Markup

from advcomp.rules.printable import printable
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


def common(images: int) -> str:
    """What a run is compared with the first one on."""
    if not images:
        return "no image in common with run 1, so no difference to tell"
    return f"{images:,} image{'s' * (images != 1)} in common with run 1"


def content(entry: Entry | None, name: str) -> str:
    """An entry by its digest, and its name where that is another."""
    if entry is None:
        return NOTHING
    digest = entry.digest[:12] or "no copy"
    return digest if entry.name == name else f"{digest}, as {entry.name}"


def setting(value: str | None) -> str:
    """A setting's value; a dash where there is none."""
    return NOTHING if value is None else value


_SIZES = ("memory", "output", "log")
"""Settings that are numbers of bytes, as those whose name ends in _bytes."""


def amount(value: object, key: str) -> str:
    """A value of the manifest on one line; a number of bytes as a size."""
    if isinstance(value, int) and (key in _SIZES or key.endswith("_bytes")):
        return _size(value)
    return " ".join(printable(str(value)).split())


def _size(number: float) -> str:
    units = iter(("bytes", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while number >= 1024 and unit != "TiB":
        number, unit = number / 1024, next(units)
    return f"{number:.4g} {unit}"


def labelled(label: int | None, names: Mapping[int, str]) -> str:
    """A label with what it is, where that is known: `2 goldfish`."""
    if label is None:
        return ""
    return f"{label} {names[label]}" if label in names else str(label)
