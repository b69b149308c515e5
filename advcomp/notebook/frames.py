"""What a tournament found out, as data frames, and as Arrow batches where it is too much for one.

Columns are those of the result files where these have them; what is missing is NA.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from enum import StrEnum

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from advcomp.errors import InvalidConfig
from advcomp.rules.submission_type import SubmissionType
from advcomp.scoring.leaderboard import LeaderboardRow
from advcomp.scoring.paired import Difference
from advcomp.scoring.results import MISSING, JobRecord, Results
from advcomp.scoring.standings import Standings
from advcomp.scoring.tables import leaderboard_rows

__all__ = [
    *("ANSWERS", "JOBS", "Quantity", "answer_batches", "answers", "budgets", "cells"),
    *("differences", "jobs", "leaderboard", "matrix"),
]

ANSWERS = pa.schema(
    [
        pa.field("image", pa.dictionary(pa.int32(), pa.string())),
        pa.field("true_label", pa.int16()),
        pa.field("target_class", pa.int16()),
        pa.field("attack", pa.dictionary(pa.int32(), pa.string())),
        pa.field("max_epsilon", pa.int16()),
        pa.field("defense", pa.dictionary(pa.int32(), pa.string())),
        pa.field("label", pa.int16()),
    ]
)
"""One row an answer: `attack` is null and `max_epsilon` 0 where the image was clean; `label` is
null where the defense gave none."""

JOBS = pa.schema(
    [
        pa.field("job", pa.string()),
        pa.field("submission", pa.string()),
        pa.field("stage", pa.string()),
        pa.field("epsilon", pa.int64()),
        pa.field("shard", pa.int64()),
        pa.field("images", pa.int64()),
        pa.field("valid", pa.int64()),
        pa.field("verdict", pa.string()),
        pa.field("exit_code", pa.int64()),
        pa.field("signal", pa.int64()),
        pa.field("wall_seconds", pa.float64()),
        pa.field("cpu_seconds", pa.float64()),
        pa.field("max_rss_bytes", pa.int64()),
        pa.field("note", pa.string()),
    ]
)
"""One row a run of a submission; null where something does not apply or is not known."""

_INTEGERS = {"rank", "rank_low", "rank_high", "images", "projected_images", "max_epsilon"}
_TEXTS = {"track", "submission", "verdict"}


class Quantity(StrEnum):
    """What a cell of `matrix` holds, as a share of the images that have a label."""

    MISCLASSIFICATION = "misclassification"
    HIT = "hit"
    CORRECT = "correct"


def leaderboard(rows: Sequence[LeaderboardRow], track: str | None = None) -> pd.DataFrame:
    """The leaderboard, one row an entry: the columns of leaderboard.csv, `baseline`,
    and `start_seconds` and `seconds_per_image`, which results.json has.

    Args:
        rows: All of them, in the order of the file.
        track: `attack`, `targeted_attack` or `defense`, and no other; None: all.

    Raises:
        InvalidConfig: There is no such track.
    """
    _refuse_unknown(track)
    chosen = [row for row in rows if track in (None, row.track)]
    names = [field.name for field in fields(LeaderboardRow)]
    return _typed({name: [getattr(row, name) for row in chosen] for name in names})


def budgets(standings: Standings, track: str | None = None) -> pd.DataFrame:
    """Score and worst case of every ranked entry at each budget: one row each, best first.

    Raises:
        InvalidConfig: There is no such track.
    """
    _refuse_unknown(track)
    by_name = {score.entry.name: score for score in standings.scores.entries}
    rows = [
        (row.track, row.submission, at.max_epsilon, plain(at.score), worst)
        for row in leaderboard_rows(standings)
        if track in (None, row.track) and row.rank is not None
        for plain in [standings.options.absence.plain]
        for at in by_name[row.submission].epsilons
        for worst in [None if at.worst_case is None else float(at.worst_case)]
    ]
    columns = ("track", "submission", "max_epsilon", "score", "worst_case")
    return _typed({name: [row[i] for row in rows] for i, name in enumerate(columns)})


def cells(standings: Standings) -> pd.DataFrame:
    """What every defense answered to every attack at each budget: counts, one row a cell.

    `answers` are those that there are; `correct` have the true label, `hit` the target class
    (NA without target classes).
    """
    tallies, results = standings.scores.tallies, standings.results
    counts = tallies.all_labels
    epsilon, defense, attack = (axis.ravel() for axis in np.indices(counts.correct.shape))
    frame = pd.DataFrame(
        {
            "attack": np.array([entry.name for entry in results.attacks])[attack],
            "max_epsilon": tallies.max_epsilons[epsilon],
            "defense": np.array([entry.name for entry in results.defenses])[defense],
            "answers": (counts.correct + counts.error).ravel(),
            "correct": counts.correct.ravel(),
            "hit": pd.array(counts.hit.ravel(), dtype="Int64"),
        }
    ).astype({"attack": "string", "defense": "string"})
    if results.target_classes is None:
        frame["hit"] = pd.array([None] * len(frame), dtype="Int64")
    return frame


def differences(found: Sequence[Difference]) -> pd.DataFrame:
    """How scores of two runs differ on the images of both, one row an entry.

    The columns are the fields of `Difference`: scores in both runs, the difference and its
    95 % interval over images.
    """
    names = [field.name for field in fields(Difference)]
    return _typed({name: [getattr(row, name) for row in found] for name in names})


def jobs(records: Sequence[JobRecord]) -> pd.DataFrame:
    """Every run of a submission, one row each: the columns of verdicts.csv."""
    rows = [[getattr(record, name) for name in JOBS.names] for record in records]
    columns = zip(*rows, strict=True) if rows else [()] * len(JOBS)
    return _frame(pa.table(list(map(list, columns)), schema=JOBS))


def matrix(
    results: Results,
    quantity: str = Quantity.MISCLASSIFICATION,
    max_epsilon: int | None = None,
) -> pd.DataFrame:
    """Rates, one row a defense, one column an attack; NA where a defense labelled nothing.

    Args:
        results: What was found out.
        quantity: `misclassification`, `hit` (of the target class) or `correct`.
        max_epsilon: At this budget alone, in pixel levels; None: over all.

    Raises:
        InvalidConfig: There is no such quantity or budget, or there are no target classes.
    """
    if quantity not in [*Quantity]:
        raise InvalidConfig(f"quantity: expected one of {', '.join(Quantity)}; got {quantity!r}")
    pairs = _pairs_at(results, max_epsilon)
    image = results.pair_image[pairs]
    predicted = results.predictions[:, :, pairs]
    if quantity == Quantity.HIT:
        if results.target_classes is None:
            raise InvalidConfig(
                "quantity hit: expected a dataset with target classes; it has none"
            )
        won = predicted == results.target_classes[image]
    else:
        won = (predicted == results.labels[image]) == (quantity == Quantity.CORRECT)
    labelled = predicted != MISSING
    counts = labelled.sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = (won & labelled).sum(axis=2) / counts
    return pd.DataFrame(
        np.where(counts > 0, rates, np.nan),
        index=pd.Index([entry.name for entry in results.defenses], name="defense"),
        columns=pd.Index([entry.name for entry in results.attacks], name="attack"),
        dtype="float64",
    )


def answers(results: Results, *, clean: bool = False) -> pd.DataFrame:
    """Every answer of every defense, one row each, on Arrow's memory: see `ANSWERS`.

    Args:
        results: What was found out.
        clean: The answers on clean images, too.
    """
    table = pa.Table.from_batches(answer_batches(results, clean=clean), schema=ANSWERS)
    return _frame(table)


def answer_batches(results: Results, *, clean: bool = False) -> Iterator[pa.RecordBatch]:
    """The same, a batch for each defense, and one for its clean images: never all at once."""
    names = pa.array(results.image_ids, pa.string())
    attacks = pa.array([entry.name for entry in results.attacks], pa.string())
    defenses = pa.array([entry.name for entry in results.defenses], pa.string())
    which, pairs = np.nonzero(results.exists)
    image = results.pair_image[pairs]
    budgets = results.pair_max_epsilon[pairs].astype(np.int16)
    every = np.arange(len(results.image_ids))

    def batch(
        defense: int,
        image: NDArray[np.intp],
        labels: NDArray[np.int16],
        attack: pa.Array,
        max_epsilon: NDArray[np.int16],
    ) -> pa.RecordBatch:
        size = len(labels)
        targets = results.target_classes
        return pa.record_batch(
            [
                pa.DictionaryArray.from_arrays(_int32(image), names),
                pa.array(results.labels[image], pa.int16()),
                pa.nulls(size, pa.int16()) if targets is None else pa.array(targets[image]),
                pa.DictionaryArray.from_arrays(attack, attacks),
                pa.array(max_epsilon),
                pa.DictionaryArray.from_arrays(_int32(np.full(size, defense)), defenses),
                pa.array(labels, pa.int16(), mask=labels == MISSING),
            ],
            schema=ANSWERS,
        )

    for defense in range(len(results.defenses)):
        labels = results.predictions[defense][which, pairs]
        yield batch(defense, image, labels, _int32(which), budgets)
        if clean:
            nobody, zero = pa.nulls(len(every), pa.int32()), np.zeros(len(every), np.int16)
            yield batch(defense, every, results.clean_predictions[defense], nobody, zero)


def _refuse_unknown(track: str | None) -> None:
    tracks = [kind.value for kind in SubmissionType]
    if track is not None and track not in tracks:
        raise InvalidConfig(f"track: expected one of {', '.join(tracks)}; got {track!r}")


def _typed(columns: Mapping[str, Sequence[object]]) -> pd.DataFrame:
    """Columns by name, each of the type that its name has everywhere; figures are Float64."""

    def kind(name: str) -> str:
        if name == "baseline":
            return "bool"
        return "Int64" if name in _INTEGERS else "string" if name in _TEXTS else "Float64"

    return pd.DataFrame(
        {name: pd.Series(list(values), dtype=kind(name)) for name, values in columns.items()}
    )


def _frame(table: pa.Table) -> pd.DataFrame:
    """On Arrow's own memory, not one Python object a cell."""
    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def _int32(values: NDArray[np.integer]) -> pa.Array:
    return pa.array(values.astype(np.int32), pa.int32())


def _pairs_at(results: Results, max_epsilon: int | None) -> NDArray[np.intp]:
    if max_epsilon is None:
        return np.arange(len(results.pair_image))
    found = np.flatnonzero(results.pair_max_epsilon == max_epsilon)
    if found.size == 0:
        known = ", ".join(map(str, sorted(set(results.pair_max_epsilon.tolist()))))
        raise InvalidConfig(f"max_epsilon: expected one of {known}; got {max_epsilon!r}")
    return found
