"""The table [space] of a tuning file: ranges and choices, laid out as what they are values of."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from advcomp.errors import InvalidConfig
from advcomp.rules.toml_file import nearest, shown_value, where
from advcomp.rules.toml_parameters import Value

RANGE_KEYS = ("low", "high", "log", "step")
CHOICES = "choices"
RULE = "{ low = ..., high = ... } with `log = true` or `step = ...`, or { choices = [...] }"
_KINDS = (bool, int, float, str)


class SpaceProblems(InvalidConfig):
    """All that is wrong with a space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Numbers from low to high, both among them; integers where both are."""

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @property
    def is_integer(self) -> bool:
        """Whether only integers are in it."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[Value, ...]:
        """Values that all others are like."""
        return self.low, self.high

    def __contains__(self, value: object) -> bool:
        right = int if self.is_integer else (int, float)
        return (
            isinstance(value, right)
            and not isinstance(value, bool)
            and self.low <= value <= self.high
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """One of some values."""

    values: tuple[Value, ...]

    @property
    def ends(self) -> tuple[Value, ...]:
        """All of them."""
        return self.values

    def __contains__(self, value: object) -> bool:
        return any(value == known and type(value) is type(known) for known in self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """A value that is tuned.

    Args:
        key: The way to it in the file that is tuned; an index of an array is a word of digits.
    """

    key: tuple[str, ...]
    values: Range | Choices

    @property
    def name(self) -> str:
        """`parameters.decay`."""
        return ".".join(self.key)


def dimensions(path: Path, space: Mapping[str, object]) -> tuple[Dimension, ...]:
    """Every value of the table [space] of the file at `path`.

    Raises:
        SpaceProblems: All that is wrong with it.
    """
    problems: list[str] = []
    found = tuple(_read(path, (), space, problems))
    if not found and not problems:
        problems.append(f"{where(path, ('space',))}: expected at least one value: KEY = {RULE}")
    if problems:
        raise SpaceProblems(*problems)
    return found


def _read(
    path: Path, key: tuple[str, ...], table: Mapping[str, object], problems: list[str]
) -> Iterator[Dimension]:
    for name, item in table.items():
        here = (*key, name)
        if not isinstance(item, Mapping):
            problems.append(f"{_place(path, here)}: expected {RULE}; got {shown_value(item)}")
        elif not {*RANGE_KEYS, CHOICES} & item.keys():
            yield from _read(path, here, item, problems)
        elif found := [*_problems(item)]:
            problems += (f"{_place(path, here)}: {problem}" for problem in found)
        elif CHOICES in item:
            yield Dimension(key=here, values=Choices(values=tuple(item[CHOICES])))
        else:
            yield Dimension(key=here, values=Range(**item))


def _place(path: Path, key: tuple[str, ...]) -> str:
    return where(path, ("space", *key))


def _problems(item: Mapping[str, object]) -> Iterator[str]:
    known = (CHOICES,) if CHOICES in item else RANGE_KEYS
    unknown = [name for name in item if name not in known]
    yield from (
        f'unknown key "{name}"; the nearest known one is "{nearest(name, known)}"'
        if name not in (*RANGE_KEYS, CHOICES)
        else f"{name} does not go with choices: take one of them out"
        for name in unknown
    )
    if unknown:
        return
    yield from _problems_of_choices(item[CHOICES]) if CHOICES in item else _of_range(item)


def _problems_of_choices(values: object) -> Iterator[str]:
    right = isinstance(values, list) and all(isinstance(value, _KINDS) for value in values)
    if not isinstance(values, list) or not right or len(values) < 2:
        yield (
            "expected choices of two or more numbers, words, true or false; "
            f"got {shown_value(values)}"
        )
    elif len({(type(value), value) for value in values}) < len(values):
        yield f"expected every choice once; got {shown_value(values)}"


def _of_range(item: Mapping[str, object]) -> Iterator[str]:
    low, high, step = item.get("low"), item.get("high"), item.get("step")
    if not _is_number(low) or not _is_number(high):
        got = f"low = {shown_value(low)}, high = {shown_value(high)}"
        yield f"expected numbers low and high; got {got}"
        return
    if not isinstance(item.get("log", False), bool):
        yield f"log: expected true or false; got {shown_value(item['log'])}"
        return
    if not low < high:
        yield f"expected low below high; got low = {low}, high = {high}"
    if item.get("log"):
        if low <= 0:
            yield f"log = true: expected low above 0; got {low}"
        if step is not None:
            yield "step does not go with log = true: take one of them out"
    elif step is not None:
        yield from _problems_of_step(low, high, step)


def _problems_of_step(low: float, high: float, step: object) -> Iterator[str]:
    whole = isinstance(low, int) and isinstance(high, int)
    if not _is_number(step) or step <= 0 or (whole and not isinstance(step, int)):
        kind = "an integer" if whole else "a number"
        yield f"step: expected {kind} above 0; got {shown_value(step)}"
        return
    count = (high - low) / step
    if low < high and (count < 1 or abs(count - round(count)) > 1e-6):
        yield f"step: expected one that leads from {low} to {high}; got {step}"


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
