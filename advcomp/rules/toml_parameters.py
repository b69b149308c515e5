"""Parameters of the library's functions as TOML files give them: numbers and words."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from advcomp.rules.toml_fields import one_of
from advcomp.rules.toml_file import Key, nearest, shown_value, where

Value = bool | int | float | str
"""What a file can give."""


def unknown_name(path: Path, key: str, name: str, known: Iterable[str]) -> str:
    """What is wrong where the file at `path` names, under `key`, no function that there is."""
    known = [*known]
    return (
        f"{where(path, (key,))}: expected {one_of(known)}; got {shown_value(name)}; "
        f'the nearest is "{nearest(name, known)}"'
    )


def kinds(annotation: object) -> tuple[object, ...]:
    """The types of a union, or the one type."""
    return get_args(annotation) or (annotation,)


def parameter_problems(
    path: Path,
    owner: str,
    known: Mapping[str, Any],
    given: Mapping[str, Value],
    table: Key = ("parameters",),
) -> Iterator[str]:
    """What is wrong with a table of parameters of the file at `path`.

    Args:
        path: The file.
        owner: The name of the function, for the messages.
        known: The type of each of its parameters, by name.
        given: What the file says.
        table: Where it says so.
    """
    for name, value in given.items():
        place = where(path, (*table, name))
        if name not in known:
            words = ", ".join(known) or "it has none"
            near = f'; the nearest is "{nearest(name, [*known])}"' if known else ""
            yield f'{place}: expected a parameter of "{owner}": {words}{near}'
        elif not _fits(value, known[name]):
            kind = inspect.formatannotation(known[name])
            yield f"{place}: expected {kind}; got {shown_value(value)}"


def _fits(value: Value, annotation: Any) -> bool:
    try:
        TypeAdapter(annotation).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True
