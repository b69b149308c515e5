"""Writes a tournament file, in values that TOML and JSON write alike."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from advcomp.rules.durable import write_durably
from advcomp.tournament.config import EntryItem, Tournament
from advcomp.tournament.entry.entries import EntrySource, Role

__all__ = ["write_tournament"]

TABLES = ("dataset", "threat", "sandbox", "limits", "defense", "scoring", "logs", "report")


def write_tournament(
    path: Path, name: str, like: Tournament, players: Mapping[Role, Sequence[EntrySource]]
) -> None:
    """Write a tournament file with the settings of another and entries of its own.

    Args:
        path: The file; its folder is there.
        like: Whose settings it has.
        players: The entries of each list.
    """
    text = "\n".join([f"name = {_value(name)}", *_lines(path, like, players), ""])
    write_durably(path, text.encode(errors="surrogateescape"))


def _lines(
    path: Path, like: Tournament, players: Mapping[Role, Sequence[EntrySource]]
) -> Iterator[str]:
    for name in TABLES:
        table = getattr(like, name).model_dump(mode="json", exclude_none=True, context=path)
        yield from ("", f"[{name}]", *_pairs(table))
    for role, sources in players.items():
        for source in sources:
            yield from ("", f"[[entries.{role}s]]", *_pairs(_item(source)))


def _item(source: EntrySource) -> dict[str, object]:
    """An item of [entries], with whatever else such an item says of the entry."""
    item: dict[str, object] = {
        "path": str(source.path),
        "files": {inside: str(outside) for inside, outside in source.files.items()},
    }
    told = {name: getattr(source, name, None) for name in EntryItem.model_fields.keys() - item}
    return item | {name: told[name] for name in sorted(told) if told[name] is not None}


def _pairs(table: Mapping[str, object]) -> Iterator[str]:
    return (f"{key} = {_value(value)}" for key, value in table.items())


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_value(k)} = {_value(v)}" for k, v in value.items()) + " }"
    # JSON's strings of printable characters are TOML's.
    return json.dumps(value, ensure_ascii=False)
