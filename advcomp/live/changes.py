"""What the page is told of a run after the first time: only what has changed.

A list is told as how it comes from the list before: a number stands for the row of that place as
it was, a pair of a number and values for that row with these values, an object for a new row.
"""

from collections.abc import Mapping, Sequence

from advcomp.live.snapshot import VERSION, Json

_ALWAYS = ("version", "event", "at")

_KEYS = {
    "leaderboard": ("track", "submission"),
    "waiting": ("entry", "stage"),
    "running": ("job",),
    "failures": ("job", "entry"),
}
"""What names a row of each list."""

Row = Mapping[str, object]


def changes(before: Json, after: Json) -> Json:
    """What of a state differs from the state before; both as `RunSnapshot.as_json` has them."""
    told: Json = {"version": VERSION, "event": "change", "at": after["at"]}
    for name, value in after.items():
        if name in _ALWAYS or value == before[name]:
            continue
        told[name] = value
        if name in _KEYS:
            told[name] = _rows(before[name], value, _KEYS[name])  # type: ignore[arg-type]
    return told


def _rows(before: Sequence[Row], after: Sequence[Row], key: Sequence[str]) -> list[object]:
    places = {tuple(row[part] for part in key): place for place, row in enumerate(before)}
    told: list[object] = []
    for row in after:
        place = places.get(tuple(row[part] for part in key))
        if place is None:
            told.append(row)
            continue
        was = before[place]
        differing = {name: value for name, value in row.items() if value != was[name]}
        told.append([place, differing] if differing else place)
    return told
