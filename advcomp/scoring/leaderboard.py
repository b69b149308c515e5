"""The leaderboard as typed rows, and those rows as CSV, JSON, Markdown and a terminal's table."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from advcomp.errors import RunConflict
from advcomp.rules.plain_file import read_plain_file, told
from advcomp.scoring.processors import scarcity

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

Cell = str | int | float | None
"""A value of a results file: text, a count, a rate, or nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderboardRow:
    """One line of leaderboard.csv, whose columns are these fields in this order, but the
    last three.

    `score`, `score_low` and `score_high` are rates (float) or counts (int), by the absence rule.
    """

    track: str
    rank: int | None
    submission: str
    score: float | int | None
    score_low: float | int | None
    score_high: float | int | None
    rank_low: int | None
    rank_high: int | None
    worst_case: float | None
    gain_over_clean: float | None
    pagerank: float | None
    pagerank_2017: float | None
    nash: float | None
    clean_accuracy: float | None
    coverage: float
    images: int
    projected_images: int | None
    median_seconds_per_100_images: float | None
    verdict: str
    baseline: bool = False
    start_seconds: float | None = None
    seconds_per_image: float | None = None

    def cells(self) -> dict[str, Cell]:
        """The columns of leaderboard.csv."""
        return {column: getattr(self, column) for column in COLUMNS}


COLUMNS = tuple(field.name for field in fields(LeaderboardRow) if field.default is MISSING)
"""The header of leaderboard.csv."""


def cell(value: Cell) -> str:
    """A value as results files write it: rates with six decimals, nothing as nothing."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{rounded(value):.6f}"
    return str(value)


def rounded(value: Cell) -> Cell:
    """A value as JSON holds it: a rate has the six decimals of the tables."""
    return round(value, 6) + 0.0 if isinstance(value, float) else value  # no -0.0


def csv_text(rows: Iterable[Iterable[Cell]]) -> str:
    """Rows as CSV: comma, LF, quoted only where needed."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([cell(value) for value in row] for row in rows)
    return text.getvalue()


def as_csv(rows: Sequence[LeaderboardRow]) -> str:
    """The text of leaderboard.csv.

    No cell can be a spreadsheet's formula: names match the contract's name pattern, which begins
    with a letter or a digit, and all else is a number or a word of ours.
    """
    return csv_text([COLUMNS, *(row.cells().values() for row in rows)])


def leaderboard_json(rows: Sequence[LeaderboardRow]) -> str:
    """The rows as a list of objects, with `baseline`."""
    return json.dumps([row_as_json(row) for row in rows], indent=2) + "\n"


def row_as_json(row: LeaderboardRow) -> dict[str, Cell]:
    """A row as JSON holds it: the columns, rates rounded like a file's, and `baseline`."""
    return {name: rounded(value) for name, value in row.cells().items()} | {
        "baseline": row.baseline
    }


def as_markdown(rows: Sequence[LeaderboardRow]) -> str:
    """What matters most, as a Markdown table per track."""
    return "\n".join(_markdown(list(group)) for _, group in groupby(rows, _track))


def as_table(rows: Sequence[LeaderboardRow]) -> "Group":
    """What matters most, as a terminal's table per track; narrow enough for 80 columns."""
    from rich.console import Group  # rich takes 40 ms that no other format needs

    return Group(*(_table(list(group)) for _, group in groupby(rows, _track)))


def read_rows(folder: Path) -> tuple[LeaderboardRow, ...]:
    """The leaderboard of a results folder, from its results.json."""
    return read_leaderboard(folder)[0]


def read_leaderboard(folder: Path) -> tuple[tuple[LeaderboardRow, ...], list[str]]:
    """The leaderboard of a results folder, and what is to be said of it, from its results.json.

    That is which entries score nobody and what that changed, own pairs left out, and whether
    processors were scarce.

    Raises:
        RunConflict: The file is damaged, or of another version of advcomp.
    """
    path = folder / "results.json"
    try:
        content = json.loads(read_plain_file(path))
        rows = tuple(LeaderboardRow(**row) for row in content["leaderboard"])
        return rows, _remarks(content)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise RunConflict(
            f"{path}: expected the results of a run of this version; got {told(error)}; "
            f"`advcomp score {folder.parent}` makes them again"
        ) from error


def _remarks(content: Mapping[str, Any]) -> list[str]:
    lines = [
        f"incomplete: {item['name']} scores nobody; {_moved(item['ranks_without_and_with_it'])}"
        for item in content.get("left_out", [])
    ]
    pairs = content.get("own_pairs", {}).get("left_out", [])
    if pairs and content["scoring"]["opponents"] == "teams":
        entries = ", ".join(sorted({entry for entry, _ in pairs}))
        lines.append(f"left out, as no played pairs connect them: own pairs of {entries}")
    runs = [_Run(**{key: job[key] for key in _Run._fields}) for job in content.get("jobs", [])]
    limits = content.get("manifest", {}).get("limits", {})
    if (scarce := scarcity(runs, limits.get("cpus", 1))) is not None:
        lines.append(f"processors: scarce ({scarce})")
    return lines


class _Run(NamedTuple):
    """The times of a run, as results.json has them."""

    wall_seconds: float
    cpu_seconds: float | None


def _moved(ranks: Mapping[str, Sequence[int | None]]) -> str:
    if not ranks:
        return "that changed no rank"
    return "so " + ", ".join(
        f"{name} has rank {rank or 'none'} (with it: {other or 'none'})"
        for name, (rank, other) in ranks.items()
    )


_HEADINGS = {
    "rank": "#",
    "submission": "{track}",
    "score": "score",
    "score_low": "95 %",
    "worst_case": "worst",
    "gain_over_clean": "gain",
    "clean_accuracy": "clean",
    "median_seconds_per_100_images": "s/100",
    "verdict": "verdict",
}
"""What people see of a row: columns and their headings."""

_TEXT = frozenset({"submission", "verdict"})


def _track(row: LeaderboardRow) -> str:
    return row.track


def _markdown(rows: Sequence[LeaderboardRow]) -> str:
    columns = _columns(rows)
    lines = [
        [_heading(column, rows) for column in columns],
        ["---" if column in _TEXT else "---:" for column in columns],
        *([readable(row)[column] for column in columns] for row in rows),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _table(rows: Sequence[LeaderboardRow]) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in _columns(rows):
        text = column in _TEXT
        table.add_column(
            _heading(column, rows), justify="left" if text else "right", no_wrap=not text
        )
    for row in rows:
        table.add_row(*(Text(readable(row)[column]) for column in _columns(rows)))
    return table


def _columns(rows: Sequence[LeaderboardRow]) -> list[str]:
    """The columns that say something of these rows, all of one track."""
    shown = [readable(row) for row in rows]
    return [column for column in _HEADINGS if any(row[column] for row in shown)]


def _heading(column: str, rows: Sequence[LeaderboardRow]) -> str:
    return _HEADINGS[column].format(track=rows[0].track.replace("_", " "))


def readable(row: LeaderboardRow) -> dict[str, str]:
    """The cells of a row as people read them: three decimals, an interval as one cell."""
    cells = {column: _short(value) for column, value in row.cells().items()}
    if row.score_low is not None:
        cells["score_low"] = f"{cells['score_low']}-{cells['score_high']}"
    if row.baseline:
        cells["submission"] += " (baseline)"
    return cells


def _short(value: Cell) -> str:
    return f"{round(value, 3) + 0.0:.3f}" if isinstance(value, float) else cell(value)
