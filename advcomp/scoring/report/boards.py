"""The leaderboards as the page shows them: columns, cells and bars."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from advcomp.rules.submission_type import SubmissionType
from advcomp.scoring.leaderboard import Cell, LeaderboardRow, as_csv
from advcomp.scoring.report.wording import NOTHING, rate, signed
from advcomp.scoring.scores import EntryScore
from advcomp.scoring.standings import Standings
from advcomp.scoring.tables import leaderboard_rows

TITLES: Mapping[SubmissionType, str] = {
    SubmissionType.ATTACK: "Attacks",
    SubmissionType.TARGETED_ATTACK: "Targeted attacks",
    SubmissionType.DEFENSE: "Defenses",
}
ANSWERS: Mapping[SubmissionType, str] = {
    SubmissionType.ATTACK: "answers that are wrong",
    SubmissionType.TARGETED_ATTACK: "answers that are the target class",
    SubmissionType.DEFENSE: "answers that are right",
}
"""What a score is a share or, under some rules for what is missing, a number of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardColumn:
    """A column behind those of rank, submission, score and rank range.

    `always`: also where no entry has a value.
    """

    field: str
    heading: str
    meaning: str
    show: Callable[[Cell], str]
    tracks: frozenset[SubmissionType] = frozenset(SubmissionType)
    always: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreBar:
    """A score with its interval, in hundredths of the board's scale."""

    score: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardRow:
    """One entry of a leaderboard; `cells` are (what is sorted by, what is shown) by column."""

    row: LeaderboardRow
    complete: bool
    own: bool
    score: str
    interval: str
    ranks: str
    bar: ScoreBar | None
    url: str | None
    team: str | None
    cells: tuple[tuple[Cell, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """The leaderboard of one track."""

    track: SubmissionType
    counts: bool
    columns: tuple[BoardColumn, ...]
    rows: tuple[BoardRow, ...]

    @property
    def title(self) -> str:
        """The track as a heading."""
        return TITLES[self.track]

    @property
    def measure(self) -> str:
        """What the score counts."""
        return f"{'number' if self.counts else 'share'} of {ANSWERS[self.track]}"

    @property
    def best(self) -> tuple[BoardRow, ...]:
        """Who leads, all of them where several tie; a baseline leads nobody."""
        ranked = [row for row in self.rows if row.row.rank and not row.row.baseline]
        return tuple(row for row in ranked if row.row.rank == ranked[0].row.rank)

    @property
    def csv(self) -> str:
        """The rows as leaderboard.csv has them."""
        return as_csv([row.row for row in self.rows])


def percent(value: Cell) -> str:
    """A rate in percent; 100 % only where it is all."""
    if not isinstance(value, float):
        return NOTHING
    return f"{int(value * 1000) / 10:.3g} %"


def seconds(value: Cell) -> str:
    """Seconds with three significant digits."""
    if not isinstance(value, float):
        return NOTHING
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


_ATTACKS = frozenset({SubmissionType.ATTACK, SubmissionType.TARGETED_ATTACK})
_DEFENSES = frozenset({SubmissionType.DEFENSE})
_COLUMNS = (
    BoardColumn(
        field="worst_case",
        heading="Worst case",
        meaning="lowest rate against any one opponent",
        show=rate,
    ),
    BoardColumn(
        field="gain_over_clean",
        heading="Gain",
        meaning="what the attack adds to the defenses' errors on clean images",
        show=signed,
        tracks=_ATTACKS,
    ),
    BoardColumn(
        field="clean_accuracy",
        heading="Clean accuracy",
        meaning="share of clean images answered rightly",
        show=rate,
        tracks=_DEFENSES,
    ),
    BoardColumn(field="nash", heading="Nash", meaning="Nash averaging", show=rate),
    BoardColumn(field="pagerank", heading="PageRank", meaning="PageRank, damping 0.85", show=rate),
    BoardColumn(
        field="pagerank_2017",
        heading="PageRank 2017",
        meaning="the iteration that a participant of 2017 used",
        show=rate,
    ),
    BoardColumn(
        field="median_seconds_per_100_images",
        heading="s / 100",
        meaning="median seconds per 100 images, start-up included",
        show=seconds,
    ),
    BoardColumn(
        field="start_seconds",
        heading="Start-up",
        meaning="seconds of a run without any image, from runs of different sizes",
        show=seconds,
        always=False,
    ),
    BoardColumn(
        field="seconds_per_image",
        heading="s / image",
        meaning="seconds that an image takes more, from runs of different sizes",
        show=seconds,
        always=False,
    ),
    BoardColumn(
        field="coverage",
        heading="Coverage",
        meaning="share of the images with a valid result",
        show=percent,
    ),
    BoardColumn(field="images", heading="Images", meaning="images that it had to do", show=rate),
    BoardColumn(
        field="projected_images",
        heading="Projected",
        meaning="images that left the budget and were projected back",
        show=rate,
        tracks=_ATTACKS,
    ),
)


def boards(standings: Standings, own: str | None = None) -> tuple[Board, ...]:
    """The leaderboards of the tracks that have an entry.

    Args:
        own: The name of the entry that the page is for.
    """
    rows = leaderboard_rows(standings)
    scores = {score.entry.name: score for score in standings.scores.entries}
    return tuple(
        _board(
            track,
            [row for row in rows if row.track == track],
            scores,
            own,
            counts=standings.options.absence.counts,
        )
        for track in SubmissionType
        if any(row.track == track for row in rows)
    )


def scale_of(rows: list[LeaderboardRow]) -> float:
    """What a full bar stands for: 1 where scores are rates, else the largest count there is."""
    figures = [
        figure for row in rows for figure in (row.score, row.score_high) if figure is not None
    ]
    if any(isinstance(figure, int) for figure in figures):
        return max(1, *figures)
    return 1


def _board(
    track: SubmissionType,
    rows: list[LeaderboardRow],
    scores: Mapping[str, EntryScore],
    own: str | None,
    *,
    counts: bool,
) -> Board:
    columns = tuple(
        column
        for column in _COLUMNS
        if track in column.tracks
        and (column.always or any(getattr(row, column.field) is not None for row in rows))
    )
    scale = scale_of(rows)
    return Board(
        track=track,
        counts=counts,
        columns=columns,
        rows=tuple(
            BoardRow(
                row=row,
                complete=scores[row.submission].complete,
                own=row.submission == own,
                score=rate(row.score),
                interval=_range(rate(row.score_low), rate(row.score_high)),
                ranks=_range(rate(row.rank_low), rate(row.rank_high)),
                bar=_bar(row, scale),
                url=scores[row.submission].entry.url,
                team=scores[row.submission].entry.team,
                cells=tuple(_cell(row, column) for column in columns),
            )
            for row in rows
        ),
    )


def _cell(row: LeaderboardRow, column: BoardColumn) -> tuple[Cell, str]:
    value: Cell = getattr(row, column.field)
    return value, column.show(value)


def _bar(row: LeaderboardRow, scale: float) -> ScoreBar | None:
    if row.score is None:
        return None
    low, high = (
        None if bound is None else 100 * bound / scale for bound in (row.score_low, row.score_high)
    )
    return ScoreBar(score=100 * row.score / scale, low=low, high=high)


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low}{NOTHING}{high}"
