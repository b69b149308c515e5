"""Fields that several of our own files have: choices, names, paths, lists of numbers."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, SerializationInfo, StringConstraints, ValidationInfo

from advcomp.rules.submission import NAME_PATTERN

Name = Annotated[str, StringConstraints(pattern=f"^{NAME_PATTERN}$")]

Values = TypeVar("Values", bound=tuple[object, ...])


def one_of(choices: Iterable[str]) -> str:
    """`one of a, b, c`: the description of a field that is a choice."""
    return f"one of {', '.join(choices)}"


def folder_of_the_file(info: ValidationInfo | SerializationInfo) -> Path:
    """The folder of the file that is read or written, whose path is the context of that."""
    file = info.context
    assert isinstance(file, Path)
    return file.parent


def beside_the_file(value: str | Path, info: ValidationInfo) -> Path:
    """The path that `value` means, seen from the folder of the file it stands in."""
    return folder_of_the_file(info) / value


def at_least(count: int) -> AfterValidator:
    """Refuses a shorter list.

    Pydantic's own `min_length` counts right values only: it would tell a wrong one twice.
    """

    def long_enough(values: Values) -> Values:
        if len(values) < count:
            raise ValueError("too few")
        return values

    return AfterValidator(long_enough)


def some_and_each_once(values: tuple[int, ...]) -> tuple[int, ...]:
    """Refuses an empty list, and one that has a number twice."""
    if not values or len(set(values)) < len(values):
        raise ValueError("none, or repeated")
    return values
