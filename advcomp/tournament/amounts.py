"""Amounts of memory and disk as people write them."""

import re
from collections.abc import Callable
from fractions import Fraction

_UNITS = {
    prefix + suffix: base**power
    for power, prefix in enumerate(["", "k", "m", "g", "t"])
    for suffix, base in (("b", 1000), ("ib", 1024))
    if prefix or suffix == "b"
}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z]{1,3})")


def parse_size(value: object) -> int:
    """Bytes of `"4 GiB"` (1024), `"500 MB"` (1000) or a plain number of bytes.

    Raises:
        ValueError: It is no size, or less than one byte.

    Example:
        >>> parse_size("1.5 GiB"), parse_size("500 MB")
        (1610612736, 500000000)
    """
    size = _bytes_of(value) if isinstance(value, str) else value
    if not isinstance(size, int) or not 1 <= size < 2**63:
        raise ValueError(f"not a size: {value!r}")
    return size


def size_of_at_least(least: int) -> Callable[[object], int]:
    """`parse_size` that takes a size of fewer bytes than `least` for none."""

    def parse(value: object) -> int:
        size = parse_size(value)
        if size < least:
            raise ValueError(f"too small a size: {value!r}")
        return size

    return parse


def _bytes_of(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None or match[2].lower() not in _UNITS:
        raise ValueError(f"not a size: {text!r}")
    return int(Fraction(match[1]) * _UNITS[match[2].lower()])
