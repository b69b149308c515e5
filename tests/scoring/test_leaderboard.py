"""The leaderboard as people read it."""

import csv
import json
from io import StringIO

from rich.console import Console

from advcomp.scoring.leaderboard import (
    COLUMNS,
    LeaderboardRow,
    as_csv,
    as_markdown,
    as_table,
    leaderboard_json,
)

ATTACK = LeaderboardRow(
    track="attack",
    rank=1,
    submission="momentum_iterative_fgsm",
    score=0.71839,
    score_low=0.69,
    score_high=0.7412,
    rank_low=1,
    rank_high=2,
    worst_case=0.5,
    gain_over_clean=-0.0001,
    pagerank=0.1,
    pagerank_2017=0.2,
    nash=0.3,
    clean_accuracy=None,
    coverage=1.0,
    images=900,
    projected_images=12,
    median_seconds_per_100_images=1.23456,
    verdict="OK",
)
DEFENSE = LeaderboardRow(
    track="defense",
    rank=None,
    submission="plain",
    score=1234,
    score_low=None,
    score_high=None,
    rank_low=None,
    rank_high=None,
    worst_case=None,
    gain_over_clean=None,
    pagerank=None,
    pagerank_2017=None,
    nash=None,
    clean_accuracy=0.98,
    coverage=0.5,
    images=900,
    projected_images=None,
    median_seconds_per_100_images=None,
    verdict="TIMED_OUT",
    baseline=True,
)


def test_markdown_has_a_table_per_track_without_empty_columns() -> None:
    assert as_markdown([ATTACK, DEFENSE]) == (
        "| # | attack | score | 95 % | worst | gain | s/100 | verdict |\n"
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: | --- |\n"
        "| 1 | momentum_iterative_fgsm | 0.718 | 0.690-0.741 | 0.500 | 0.000 | 1.235 | OK |\n"
        "\n"
        "| defense | score | clean | verdict |\n"
        "| --- | ---: | ---: | --- |\n"
        "| plain (baseline) | 1234 | 0.980 | TIMED_OUT |\n"
    )


def test_a_terminal_of_80_columns_shows_every_number_whole() -> None:
    text = StringIO()
    Console(file=text, width=80).print(as_table([ATTACK, DEFENSE]))
    for shown in (
        "momentum_iterative_fgsm",
        "0.690-0.741",
        "0.500",
        "1.235",
        "OK",
        "TIMED_OUT",
    ):
        assert shown in text.getvalue()
    assert max(map(len, text.getvalue().splitlines())) <= 80


def test_a_name_is_never_markup() -> None:
    text = StringIO()
    row = LeaderboardRow(**{**ATTACK.cells(), "submission": "[red]x"})  # type: ignore[arg-type]
    Console(file=text, width=100).print(as_table([row]))
    assert "[red]x" in text.getvalue()


def test_csv_and_json_hold_every_column() -> None:
    (row, _) = csv.DictReader(StringIO(as_csv([ATTACK, DEFENSE])))
    assert tuple(row) == COLUMNS
    assert row["gain_over_clean"] == "-0.000100"
    listed = json.loads(leaderboard_json([ATTACK, DEFENSE]))
    assert tuple(listed[0]) == (*COLUMNS, "baseline")
    assert listed[0]["median_seconds_per_100_images"] == 1.23456
    assert listed[1]["rank"] is None
    assert listed[1]["baseline"] is True
