"""TOML with some values changed: comments, order and all else stay as they are."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import BaseModel

from advcomp.rules.toml_parameters import Value

Values = Mapping[tuple[str, ...], Value]
"""The way to a value -> the value."""


def edited(text: str, values: Values) -> str:
    """`text` with these values; tables that are missing are added.

    Raises:
        KeyError: A way leads through what is no table, or through an item that an array lacks.
    """
    document = tomlkit.parse(text)
    for key, value in values.items():
        table: Any = document
        for part in key[:-1]:
            table = _inside(table, part, key)
        if not isinstance(table, Mapping):
            raise KeyError(key)
        table[key[-1]] = value  # type: ignore[index]
    return tomlkit.dumps(document)


def _inside(table: Any, part: str, key: tuple[str, ...]) -> Any:
    if isinstance(table, Mapping):
        return table.setdefault(part, tomlkit.table())  # type: ignore[attr-defined]
    if isinstance(table, Sequence) and part.isdecimal() and int(part) < len(table):
        return table[int(part)]
    raise KeyError(key)


def value_at(table: object, key: tuple[str, ...]) -> object:
    """What stands at the end of a way; None where nothing does."""
    for part in key:
        if isinstance(table, Mapping):
            table = table.get(part)
        elif isinstance(table, list) and part.isdecimal() and int(part) < len(table):
            table = table[int(part)]
        else:
            return None
    return table


def moved(text: str, model: BaseModel, folder: Path) -> str:
    """`text` with its paths as they are seen from another folder.

    Args:
        model: What the text says; tells which of its values are paths, and where they lead.
    """
    document = tomlkit.parse(text)
    _move(document, model.model_dump(), folder.resolve())
    return tomlkit.dumps(document)


def _move(written: Any, read: Any, folder: Path) -> None:
    pairs = read.items() if isinstance(read, Mapping) else enumerate(read)
    for key, value in pairs:
        if isinstance(written, Mapping) and key not in written:
            continue
        if isinstance(value, Path):
            written[key] = os.path.relpath(value.resolve(), folder)
        elif isinstance(value, Mapping | tuple):
            _move(written[key], value, folder)
