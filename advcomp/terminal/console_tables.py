"""Tables on standard output."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from advcomp.scoring.leaderboard import (
    LeaderboardRow,
    as_csv,
    as_markdown,
    as_table,
    leaderboard_json,
    read_leaderboard,
)
from advcomp.terminal.text import one_line
from advcomp.tournament.outcome.status import remarks, results_of


def show(table: RenderableType) -> None:
    """Print a table as wide as a terminal, or as it has to be for its words to be whole."""
    console = Console()
    wanted = console.measure(table, options=console.options.update(width=10_000))
    console.width = max(console.width, wanted.minimum) if console.is_terminal else wanted.maximum
    console.print(table)


def table_of(headings: Mapping[str, bool], rows: Iterable[Sequence[str]]) -> Table:
    """A table of plain cells.

    Args:
        headings: Heading -> whether its column holds numbers, which stand at the right.
    """
    table = Table(box=box.SIMPLE_HEAD)
    for heading, is_number in headings.items():
        table.add_column(heading, justify="right" if is_number else "left")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    return table


def print_leaderboard(run: Path, form: str) -> None:
    """Print the leaderboard of a run as `table`, `csv`, `json` or `md`.

    Raises:
        RunConflict: The folder is no run, or has no results yet.
    """
    results = results_of(run)
    rows, said = read_leaderboard(results)
    said += remarks(run)
    match form:
        case "csv":
            text = as_csv(rows)
        case "json":
            text = leaderboard_json(rows)
        case "md":
            text = as_markdown(rows) + "".join(f"\n{remark}\n" for remark in said)
        case _:
            show_leaderboard(rows)
            text = "".join(f"{remark}\n" for remark in said)
    print(text, end="")


def show_leaderboard(rows: Sequence[LeaderboardRow]) -> None:
    """Print the leaderboard."""
    show(as_table(rows))
