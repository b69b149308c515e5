"""The leaderboard as it fills: shares of the answers that there are, until the results are.

Which entries are complete opponents, what absence means and how pairs of one team are estimated is
decided when all answers are there; until then each answer counts one, and pairs of one team none.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from advcomp.live.snapshot import Standing
from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.verdict import Verdict
from advcomp.scoring.leaderboard import LeaderboardRow
from advcomp.scoring.results import Entry, Results
from advcomp.scoring.tallies import tally


def standings_so_far(
    results: Results, waiting: Mapping[str, int], verdicts: Mapping[str, str | None]
) -> tuple[Standing, ...]:
    """Every entry, by track, then by its share, then by name.

    Args:
        results: As far as they are.
        waiting: Name of an entry -> how many of its jobs have no result.
        verdicts: Name of an entry -> its verdict as it stands.
    """
    counts = tally(results)
    labels = counts.all_labels
    strangers = counts.strangers
    correct, error, hit = (
        (each.sum(axis=0) * strangers) for each in (labels.correct, labels.error, labels.hit)
    )
    answers = labels.correct.sum(axis=0) + labels.error.sum(axis=0)
    expected = _expected(results, waiting)
    attacks_wait = any(waiting.get(entry.name) for entry in results.attacks)
    defenses_wait = any(waiting.get(entry.name) for entry in results.defenses)
    playing = sum(entry.verdict is not Verdict.REJECTED for entry in results.defenses)
    rows = []
    for a, entry in enumerate(results.attacks):
        won = hit if entry.type is SubmissionType.TARGETED_ATTACK else error
        given, all_given = int(answers[:, a].sum()), int(expected[a]) * playing
        lacks = defenses_wait and given < all_given
        rows.append(
            _standing(
                entry,
                verdicts,
                share=_share(won[:, a].sum(), (correct + error)[:, a].sum()),
                answers=given,
                expected=all_given,
                provisional=lacks or bool(waiting.get(entry.name)),
            )
        )
    for d, entry in enumerate(results.defenses):
        rows.append(
            _standing(
                entry,
                verdicts,
                share=_share(correct[d].sum(), (correct + error)[d].sum()),
                answers=int(answers[d].sum()),
                expected=int(expected.sum()),
                provisional=attacks_wait or bool(waiting.get(entry.name)),
            )
        )
    return tuple(_ranked(rows))


def standings_at_last(
    rows: Sequence[LeaderboardRow], so_far: Sequence[Standing]
) -> tuple[Standing, ...]:
    """The leaderboard of a finished run, in the order of its file."""
    known = {(row.track, row.submission): row for row in so_far}
    return tuple(
        replace(
            known[row.track, row.submission],
            rank=row.rank,
            score=row.score,
            low=row.score_low,
            high=row.score_high,
            provisional=False,
            verdict=row.verdict,
        )
        for row in rows
        if (row.track, row.submission) in known
    )


def _expected(results: Results, waiting: Mapping[str, int]) -> NDArray[np.int64]:
    """How many images of each attack a defense may be shown at most, (A,)."""
    made = results.exists.sum(axis=1, dtype=np.int64)
    waits = np.array([bool(waiting.get(entry.name)) for entry in results.attacks], np.bool_)
    expected: NDArray[np.int64] = np.where(waits, results.exists.shape[1], made)
    return expected


def _share(won: np.int64, answers: np.int64) -> float | None:
    return float(won / answers) if answers else None


def _standing(
    entry: Entry,
    verdicts: Mapping[str, str | None],
    *,
    share: float | None,
    answers: int,
    expected: int,
    provisional: bool,
) -> Standing:
    rejected = entry.verdict is Verdict.REJECTED
    return Standing(
        track=entry.type,
        rank=None,
        submission=entry.name,
        team=entry.team,
        baseline=entry.baseline,
        score=share,
        low=None,
        high=None,
        answers=answers,
        expected=0 if rejected else expected,
        provisional=provisional and not rejected,
        verdict=verdicts.get(entry.name),
    )


def _ranked(rows: Sequence[Standing]) -> Iterator[Standing]:
    """In order, with ranks; equal shares have one."""
    for track in SubmissionType:
        own = [row for row in rows if row.track == track]
        scores = [row.score for row in own if row.score is not None]
        for row in sorted(own, key=lambda row: (-_number(row.score), row.submission)):
            if row.score is None:
                yield row
            else:
                yield replace(row, rank=1 + sum(other > row.score for other in scores))


def _number(score: float | int | None) -> float:
    return -1.0 if score is None else float(score)
