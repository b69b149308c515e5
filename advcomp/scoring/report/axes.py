"""What the charts have in common: their frame, axes and labels, in the units of the view box.

A chart is as wide as a phone, so that its text is as large there as on a desk, where several stand
side by side. The templates draw as SVG what is placed here.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

WIDTH, HEIGHT = 360, 270
LEFT, RIGHT, TOP, BOTTOM = 40, 14, 14, 38
FLOOR = HEIGHT - BOTTOM

CHARACTER = 6.1
"""Mean width of a bold letter."""

_LONGEST_LABEL = 19
_MOST_SCORE_TICKS = 5
_MOST_TIME_TICKS = 7
_DECADES = range(-6, 9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A mark of an axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A name beside what it names; `anchor` is SVG's text-anchor."""

    x: float
    y: float
    anchor: str
    text: str


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps [low, high] to [start, end]; a single value to the middle."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Where a value stands."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return round(self.start + share * (self.end - self.start), 2)


def score_axis(figures: Iterable[float]) -> tuple[Scale, tuple[Tick, ...]]:
    """A vertical axis from 0 to a round number that is not below any figure."""
    highest = max(figures, default=1) or 1
    step = next(number for number in _round_numbers() if number * _MOST_SCORE_TICKS >= highest)
    count = math.ceil(highest / step - 1e-9)
    scale = Scale(0, count * step, FLOOR, TOP)
    return scale, tuple(
        Tick(at=scale(i * step), text=f"{round(i * step, 6):,g}") for i in range(count + 1)
    )


def number_axis(figures: Iterable[float]) -> tuple[Scale, tuple[Tick, ...]]:
    """A horizontal axis from 0 to a round number that is not below any figure."""
    upright, ticks = score_axis(figures)
    scale = Scale(0, upright.high, LEFT + 8, WIDTH - RIGHT - 8)
    step = upright.high / (len(ticks) - 1)
    return scale, tuple(Tick(at=scale(i * step), text=tick.text) for i, tick in enumerate(ticks))


def time_axis(times: Iterable[float]) -> tuple[Scale, tuple[Tick, ...]]:
    """A logarithmic horizontal axis around these times; its scale maps their logarithms."""
    given = list(times) or [1.0]
    low = max((n for n in _round_numbers() if n < min(given)), default=min(given))
    high = min((n for n in _round_numbers() if n > max(given)), default=max(given))
    scale = Scale(math.log10(low), math.log10(high), LEFT + 8, WIDTH - RIGHT - 8)
    numbers = [n for n in _round_numbers() if low <= n <= high]
    if len(numbers) > _MOST_TIME_TICKS:
        numbers = [n for n in numbers if math.log10(n).is_integer()]
    return scale, tuple(Tick(at=scale(math.log10(n)), text=f"{n:,g}") for n in numbers)


def short(name: str) -> str:
    """A name as charts have room for it."""
    return name if len(name) <= _LONGEST_LABEL else f"{name[: _LONGEST_LABEL - 1]}…"


def _round_numbers() -> Iterator[float]:
    """1, 2 and 5 times the powers of ten, ascending."""
    return (float(f"{base}e{decade}") for decade in _DECADES for base in (1, 2, 5))
