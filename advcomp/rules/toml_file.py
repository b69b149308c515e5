"""Reads a TOML file into a checked model; whatever is wrong with it is reported together.

A field's description says what is expected of it and is the text of its error messages:
`digits.toml:19: [limits] memory: expected a size such as "4 GiB"; got "4 gigs"`.
"""

import codecs
import difflib
import inspect
import json
import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from advcomp.errors import InvalidConfig
from advcomp.rules.plain_file import read_plain_text

Key = tuple[str | int, ...]
"""The way to a value: names of tables and keys, indices into arrays."""

_NAME = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
_DOTTED = rf"{_NAME}(?:\s*\.\s*{_NAME})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_DOTTED})\s*=")
_SHOWN_CHARACTERS = 80
_MOST_BYTES = 16 << 20


class Table(BaseModel):
    """A table of one of our own files: no unknown key, no conversion, no change afterwards."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


AnyTable = TypeVar("AnyTable", bound=Table)


def problem(text: str) -> PydanticCustomError:
    """A validator's error that is shown as it is, without the field's description."""
    return PydanticCustomError("problem", "{text}", {"text": text})


def read_toml(path: Path, model: type[AnyTable]) -> AnyTable:
    """The content of the file at `path`; validators get its absolute path as their context.

    Raises:
        InvalidConfig: It cannot be read, is not TOML, or breaks the model: all problems at once.
    """
    return parse_toml(read_toml_text(path), path, model)


def parse_toml(text: str, path: Path, model: type[AnyTable]) -> AnyTable:
    """What `text` says, as if it stood in the file at `path`.

    Raises:
        InvalidConfig: See `read_toml`.
    """
    values = toml_tables(path, text)
    try:
        return model.model_validate(values, context=path.resolve())
    except ValidationError as error:
        problems = [
            (_line_of(text, key), key, _explained(model, key, details))
            for details in error.errors(include_url=False)
            for key in [tuple(part for part in details["loc"] if part != "[key]")]
        ]
        problems.sort(key=lambda each: each[0] or 0)
        raise InvalidConfig(
            *(f"{_place(path, line, key)}: {what}" for line, key, what in problems)
        ) from None


def toml_tables(path: Path, text: str) -> dict[str, object]:
    """What the TOML in a file says, which may still be of the wrong kind.

    Raises:
        InvalidConfig: It is no TOML.
    """
    try:
        values = tomllib.loads(text)
        nul = _nul_in(values)
    except RecursionError:
        raise InvalidConfig(
            f"{path}: expected TOML; got tables or arrays nested too deeply"
        ) from None
    except ValueError as error:  # numbers of thousands of digits, too, are no TOMLDecodeError
        raise InvalidConfig(f"{path}: expected TOML; {error}") from None
    if nul is not None:
        raise InvalidConfig(
            f"{path}: expected text without NUL characters (\\u0000); got {json.dumps(nul)}"
        )
    return values


def _nul_in(value: object) -> str | None:
    """A string or key with a NUL, which no path and no name can have; None without one."""
    if isinstance(value, str):
        return value if "\0" in value else None
    parts: Iterable[object] = ()
    if isinstance(value, dict):
        parts = (*value, *value.values())
    elif isinstance(value, list):
        parts = value
    return next(filter(None, map(_nul_in, parts)), None)


def where(path: Path, key: Key) -> str:
    """`digits.toml:19: [limits] memory`: the file, the line where `key` stands, and the key."""
    return _place(path, _line_of(read_toml_text(path), key), key)


def _place(path: Path, line: int | None, key: Key) -> str:
    if not key:  # what is wrong is wrong with the tables together
        return str(path)
    return f"{path}: {dotted(key)}" if line is None else f"{path}:{line}: {dotted(key)}"


def read_toml_text(path: Path) -> str:
    """The text of a file, which may begin with a byte order mark.

    Raises:
        InvalidConfig: It cannot be read, or is not UTF-8.
    """
    try:
        return read_plain_text(path, _MOST_BYTES)
    except OSError as error:
        raise InvalidConfig(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        byte, offset = error.object[error.start], error.start
        wide = error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        got = "UTF-16 or UTF-32" if wide else f"byte 0x{byte:02x} at offset {offset}"
        raise InvalidConfig(f"{path}: expected UTF-8 text; got {got}; save it as UTF-8") from None


def dotted(key: Key) -> str:
    """A key as a reader looks for it: `name`, `[limits] memory`, `[entries] attacks[1] path`."""
    first, *rest = key
    parts = (f"[{part}]" if isinstance(part, int) else f" {part}" for part in rest)
    return "".join([f"[{first}]" if rest else str(first), *parts])


def shown_value(value: object) -> str:
    """A value about as it looks in a TOML file, cut where it gets long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def nearest(name: str, known: Sequence[str]) -> str:
    """The one of some known names, at least one, that looks most like `name`."""
    return difflib.get_close_matches(name.lower(), known, n=1, cutoff=0)[0]


def _line_of(text: str, key: Key) -> int | None:
    """The line of the longest part of `key` that is written out; arrays count as one line.

    Looks at lines, not at the grammar, which the parser knows but does not tell: a line of a
    multi-line string that looks like a key is taken for one.
    """
    line_of: dict[Key, int] = {}
    table: Key = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _names(header[2])
            if header[1] == "[[":
                table += (sum(other[:-1] == table for other in line_of),)
            line_of.setdefault(table, number)
        elif assignment := _ASSIGNMENT.match(line):
            line_of.setdefault(table + _names(assignment[1]), number)
    written = [key[:length] for length in range(len(key), 0, -1) if key[:length] in line_of]
    return line_of[written[0]] if written else None


def _names(written: str) -> Key:
    return tuple(name.strip("\"'") for name in re.findall(_NAME, written))


def _explained(model: type[Table], key: Key, details: ErrorDetails) -> str:
    """What is wrong, in our words: what was expected, what was found."""
    table, description = _known_about(model, key)
    match details["type"]:
        case "extra_forbidden":
            return _unknown_key(model, table, str(key[-1]))
        case "missing":
            return f"missing; expected {description}"
        case "problem":
            return details["msg"]
        case _:
            return f"expected {description}; got {shown_value(details['input'])}"


def _known_about(model: type[Table], key: Key) -> tuple[type[Table], str]:
    """The innermost table that `key` leads through, and the innermost description on the way."""
    description = "a TOML table"
    for part in key:
        field = model.model_fields.get(part) if isinstance(part, str) else None
        if field is not None:
            description = field.description or description
            model = _table_in(field.annotation) or model
    return model, description


def _table_in(annotation: object) -> type[Table] | None:
    """The kind of table that a field's type holds, inside tuples and options too."""
    if inspect.isclass(annotation) and issubclass(annotation, Table):
        return annotation
    return next(filter(None, map(_table_in, get_args(annotation))), None)


def _unknown_key(model: type[Table], table: type[Table], name: str) -> str:
    """Names the nearest known key, and the table where `name` itself would be right."""
    known = list(table.model_fields)
    homes = [
        f"[{field}] {name}"
        for field, info in model.model_fields.items()
        if name in getattr(_table_in(info.annotation), "model_fields", ())
    ]
    elsewhere = f" (or do you mean {', '.join(homes)}?)" if homes else ""
    return f'unknown key; the nearest known one is "{nearest(name, known)}"{elsewhere}'
