"""The leaderboard as typed rows, and those rows as CSV, JSON, Markdown and a terminal's table."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

Cell = str | int | float | None
"""A value of a results file: text, a count, a rate, or nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderboardRow:
    """One line of leaderboard.csv, whose columns are these fields in this order, but the last.

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

    def cells(self) -> dict[str, Cell]:
        """The columns of leaderboard.csv."""
        return {column: getattr(self, column) for column in COLUMNS}


COLUMNS = tuple(field.name for field in fields(LeaderboardRow) if field.name != "baseline")
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


def as_json(rows: Sequence[LeaderboardRow]) -> str:
    """The rows as a list of objects, with `baseline`."""
    return json.dumps([row_as_json(row) for row in rows], indent=2) + "\n"


def row_as_json(row: LeaderboardRow) -> dict[str, Cell]:
    """A row as JSON holds it: the columns, rates rounded like a file's, and `baseline`."""
    return {name: rounded(value) for name, value in row.cells().items()} | {
        "baseline": row.baseline
    }


def as_markdown(rows: Sequence[LeaderboardRow]) -> str:
    """The rows as a Markdown table of what matters most."""
    header = [_HEADINGS[column] for column in _SHOWN]
    rule = ["---" if column in _TEXT else "---:" for column in _SHOWN]
    lines = [header, rule, *(_shown(row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def as_table(rows: Sequence[LeaderboardRow]) -> "Table":
    """The rows as a terminal's table of what matters most."""
    from rich.table import Table  # 40 ms that no other format needs
    from rich.text import Text

    table = Table()
    for column in _SHOWN:
        table.add_column(_HEADINGS[column], justify="left" if column in _TEXT else "right")
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        last_of_track = following is not None and following.track != row.track
        table.add_row(*(Text(value) for value in _shown(row)), end_section=last_of_track)
    return table


def read_rows(folder: Path) -> tuple[LeaderboardRow, ...]:
    """The leaderboard of a results folder, from its results.json."""
    content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return tuple(LeaderboardRow(**row) for row in content["leaderboard"])


_HEADINGS = {
    "track": "track",
    "rank": "#",
    "submission": "submission",
    "score": "score",
    "score_low": "95 % interval",
    "worst_case": "worst case",
    "gain_over_clean": "gain over clean",
    "clean_accuracy": "clean accuracy",
    "coverage": "coverage",
    "median_seconds_per_100_images": "s / 100 images",
    "verdict": "verdict",
}
_SHOWN = tuple(_HEADINGS)
_TEXT = frozenset({"track", "submission", "verdict"})


def _shown(row: LeaderboardRow) -> list[str]:
    """The cells of a row that people read: three decimals, an interval as one cell."""
    cells = {column: _short(value) for column, value in row.cells().items()}
    if row.score_low is not None:
        cells["score_low"] = f"{cells['score_low']} to {cells['score_high']}"
    if row.baseline:
        cells["submission"] += " (baseline)"
    return [cells[column] for column in _SHOWN]


def _short(value: Cell) -> str:
    return f"{round(value, 3) + 0.0:.3f}" if isinstance(value, float) else cell(value)
