"""`advcomp compare`: what differs between runs, as tables, JSON or a page."""

from collections.abc import Sequence
from pathlib import Path

from advcomp.rules.durable import write_named_file
from advcomp.scoring.comparison import Comparison, comparison_json
from advcomp.scoring.report.comparison_page import comparison_page
from advcomp.scoring.report.wording import common, content, gap, rate, setting
from advcomp.terminal.console_tables import show, table_of
from advcomp.terminal.run_command import near
from advcomp.tournament.outcome.judged_runs import compare_runs


def compare_in_terminal(runs: Sequence[Path], page: Path | None, *, json: bool) -> None:
    """Compare runs with the first of them, and print what differs, or write it as a page.

    Raises:
        InvalidConfig, RunConflict: See `compare_runs`.
    """
    comparison = compare_runs(runs)
    if page is not None:
        write_named_file(page, comparison_page(comparison).encode())
        print(f"page: {near(page)}")
    elif json:
        print(comparison_json(comparison), end="")
    else:
        _print(comparison)


def _print(comparison: Comparison) -> None:
    shares = ("", *(f" ({common(images)})" for images in comparison.common_images))
    for number, (run, share) in enumerate(zip(comparison.runs, shares, strict=True), start=1):
        print(f"run {number}: {run}{share}")
    columns = {f"run {number}": False for number in range(1, len(comparison.runs) + 1)}
    _table(
        "settings that differ",
        {"setting": False, **columns},
        [(row.key, *map(setting, row.values)) for row in comparison.settings],
    )
    _table(
        "entries that differ",
        {"track": False, "submission": False, **columns},
        [
            (row.track, row.name, *(content(entry, row.name) for entry in row.entries))
            for row in comparison.entries
        ],
    )
    others = list(columns)[1:]
    _table(
        "scores; differences from run 1 on the images of both, with 95 % intervals",
        {
            "track": False,
            "submission": False,
            **dict.fromkeys(columns, True),
            **{f"{other} - run 1": True for other in others},
        },
        [
            (row.track, row.submission, *map(rate, row.scores), *map(gap, row.differences))
            for row in comparison.scores
        ],
    )


def _table(title: str, headings: dict[str, bool], rows: Sequence[Sequence[str]]) -> None:
    print(f"\n{title}:" if rows else f"\n{title}: none")
    if rows:
        show(table_of(headings, rows))
