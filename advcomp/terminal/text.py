"""Text of strangers made harmless for a terminal, and amounts as people read them."""

from advcomp.rules.printable import printable

_SIZES = ("bytes", "KiB", "MiB", "GiB", "TiB")


def one_line(text: str) -> str:
    """`text` made harmless, on one line."""
    return " ".join(printable(text).split())


def size(count: float) -> str:
    """A number of bytes as `1.5 GiB`."""
    unit = 0
    while count >= 1024 and unit < len(_SIZES) - 1:
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} {_SIZES[unit]}" if unit == 0 else f"{count:.1f} {_SIZES[unit]}"


def duration(seconds: float) -> str:
    """A time span as `0.04 s`, `2.3 s`, `4 min 10 s` or `3 h 05 min`."""
    if seconds < 59.95:
        return f"{seconds:.{2 if 0 < seconds < 1 else 1}f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def whole(seconds: float) -> str:
    """A time span that goes on, without fractions: `2 s`, `4 min 10 s` or `3 h 05 min`."""
    return f"{round(seconds)} s" if seconds < 59.5 else duration(round(seconds))


def count(number: int, noun: str, nouns: str | None = None) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number:,} {noun if number == 1 else nouns or f'{noun}s'}"
