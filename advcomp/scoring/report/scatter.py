"""The chart of score against run time, in which who is cheap for what it does stands out."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from advcomp.scoring.report.axes import (
    CHARACTER,
    FLOOR,
    LEFT,
    RIGHT,
    WIDTH,
    Label,
    Tick,
    score_axis,
    short,
    time_axis,
)
from advcomp.scoring.report.boards import Board, BoardRow, seconds

_RADIUS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """An entry; `low` and `high` are where the interval of its score ends.

    Args:
        told: All that the point says, in words.
        front: Whether everybody who is at least as fast has a lower score; only complete
            entries, and attacks that add to the errors on clean images.
    """

    x: float
    y: float
    low: float | None
    high: float | None
    name: str
    told: str
    front: bool
    own: bool
    label: Label | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """The chart of one track.

    Args:
        front: The points of the Pareto front, the fastest first.
        stairs: The path along them: what can be had for at most so much time.
        left_out: Entries that have no score or no time.
    """

    title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    points: tuple[Point, ...]
    front: tuple[Point, ...]
    stairs: str
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "_Box") -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


def scatter(board: Board) -> Scatter:
    """Place the entries of a track; names stand where they have room, the front's first."""
    placed = [row for row in board.rows if row.row.score is not None and _time(row)]
    front = _front([row for row in placed if row.complete and _adds(row)])
    x, x_ticks = time_axis(_time(row) for row in placed)
    y, y_ticks = score_axis(max(row.row.score or 0, row.row.score_high or 0) for row in placed)
    points = [
        Point(
            x=x(math.log10(_time(row))),
            y=y(row.row.score or 0),
            low=None if row.row.score_low is None else y(row.row.score_low),
            high=None if row.row.score_high is None else y(row.row.score_high),
            name=row.row.submission,
            told=f"{row.row.submission}: {row.score}, {seconds(_time(row))} s per 100 images",
            front=row.row.submission in front,
            own=row.own,
        )
        for row in placed
    ]
    best = tuple(sorted((point for point in points if point.front), key=lambda point: point.x))
    return Scatter(
        title=board.title,
        x_ticks=x_ticks,
        y_ticks=y_ticks,
        points=tuple(_labelled(points)),
        front=best,
        stairs=_stairs(best),
        left_out=tuple(row.row.submission for row in board.rows if row not in placed),
    )


def _time(row: BoardRow) -> float:
    return row.row.median_seconds_per_100_images or 0.0


def _adds(row: BoardRow) -> bool:
    """Whether an attack does more than show the clean images; a defense always does."""
    gain = row.row.gain_over_clean
    return gain is None or gain > 0


def _front(rows: Sequence[BoardRow]) -> set[str]:
    """Who is better than everybody who is at least as fast."""
    best, front = -math.inf, set()
    for row in sorted(rows, key=lambda row: (_time(row), -(row.row.score or 0))):
        if (row.row.score or 0) > best:
            front.add(row.row.submission)
            best = row.row.score or 0
    return front


def _stairs(front: Sequence[Point]) -> str:
    if not front:
        return ""
    moves = [f"M{front[0].x} {front[0].y}", *(f"H{point.x}V{point.y}" for point in front[1:])]
    return "".join([*moves, f"H{WIDTH - RIGHT}"])


def _labelled(points: Sequence[Point]) -> list[Point]:
    taken = [
        _Box(point.x - _RADIUS, point.y - _RADIUS, point.x + _RADIUS, point.y + _RADIUS)
        for point in points
    ]
    labels: dict[str, Label] = {}
    for point in sorted(points, key=lambda point: (not point.own, not point.front, point.y)):
        for label in _candidates(point):
            box = _box(label)
            if _inside(box) and not any(box.meets(other) for other in taken):
                labels[point.name] = label
                taken.append(box)
                break
    return [replace(point, label=labels.get(point.name)) for point in points]


def _candidates(point: Point) -> Iterator[Label]:
    for dx, dy, anchor in (
        (9, -3, "start"),
        (-9, -3, "end"),
        (9, 10, "start"),
        (-9, 10, "end"),
        (0, -10, "middle"),
        (0, 18, "middle"),
    ):
        yield Label(x=point.x + dx, y=point.y + dy, anchor=anchor, text=short(point.name))


def _box(label: Label) -> _Box:
    width = CHARACTER * len(label.text)
    left = label.x - {"start": 0.0, "middle": width / 2, "end": width}[label.anchor]
    return _Box(left, label.y - 9, left + width, label.y + 3)


def _inside(box: _Box) -> bool:
    return box.left >= LEFT and box.right <= WIDTH and box.top >= 0 and box.bottom <= FLOOR
