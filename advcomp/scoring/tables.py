"""The result files: which table holds what, as text. `publish.py` writes them.

No cell of a table can be a spreadsheet's formula: names match the contract's name pattern, which
begins with a letter or a digit, and all else is a number or a word of ours. The one exception is a
job's note, which may quote a submission; `_note` makes it harmless.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from fractions import Fraction
from statistics import median

import numpy as np
from numpy.typing import NDArray

from advcomp.rules.submission_type import SubmissionType
from advcomp.scoring.intervals import Interval
from advcomp.scoring.leaderboard import (
    Cell,
    LeaderboardRow,
    as_csv,
    csv_text,
    rounded,
    row_as_json,
)
from advcomp.scoring.results import JobRecord, Results
from advcomp.scoring.scores import Absence, EntryScore
from advcomp.scoring.standings import Standings

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]

Matrix = list[list[int | None]]

FORMAT = 1
"""Version of the layout of results.json."""


def tables(
    standings: Standings, jobs: Sequence[JobRecord], manifest: Mapping[str, object]
) -> dict[str, str]:
    """The text of every result file, by its path within the results folder.

    Args:
        standings: The judged tournament.
        jobs: Its runs, in the order in which they are to be listed.
        manifest: What made the results (parameters, digests, seeds, sandbox, limit tier,
            versions; machine facts under the key `machine`), of JSON's types only.
    """
    rows = leaderboard_rows(standings)
    matrices = {
        f"{folder}{name}.csv": _matrix_csv(standings.results, matrix)
        for folder, group in _matrices(standings).items()
        for name, matrix in group.items()
    }
    return {
        **matrices,
        "leaderboard.csv": as_csv(rows),
        "verdicts.csv": verdicts_csv(jobs),
        "results.json": results_json(standings, rows, jobs, manifest),
    }


def leaderboard_rows(standings: Standings) -> tuple[LeaderboardRow, ...]:
    """The leaderboard: by track, then by rank (none comes last), then by name."""
    tracks = list(SubmissionType)
    entries = zip(standings.scores.entries, standings.intervals, strict=True)
    rows = [_row(standings, index, *entry) for index, entry in enumerate(entries)]
    return tuple(
        sorted(
            rows,
            key=lambda row: (
                tracks.index(SubmissionType(row.track)),
                row.rank is None,
                row.rank or 0,
                row.submission,
            ),
        )
    )


def verdicts_csv(jobs: Sequence[JobRecord]) -> str:
    """The text of verdicts.csv, one line per run."""
    header = [field.name for field in fields(JobRecord)]
    return csv_text([header, *(_job(job).values() for job in jobs)])


def results_json(
    standings: Standings,
    rows: Sequence[LeaderboardRow],
    jobs: Sequence[JobRecord],
    manifest: Mapping[str, object],
) -> str:
    """The text of results.json: every table, what each entry is, and what made it all."""
    results, scores = standings.results, standings.scores
    content: dict[str, Json] = {
        "format": FORMAT,
        "provisional": standings.provisional,
        "scoring": {
            "absence": str(standings.options.absence),
            "opponents": str(standings.options.opponents),
            "bootstrap": standings.options.bootstrap,
            "seed": standings.options.seed,
        },
        "rankings": {ranking.name: ranking.parameters for ranking in standings.rankings},
        "images": len(results.image_ids),
        "pairs": len(results.pair_image),
        "unscored_images": int(results.infra_images.sum()),
        "unscored_pairs": int(results.infra_pairs.sum()),
        "max_epsilons": scores.tallies.max_epsilons.tolist(),
        "expelled": scores.expelled,
        "left_out": _left_out(standings),
        "own_pairs": _own_pairs(standings),
        "leaderboard": [row_as_json(row) for row in rows],
        "entries": [_entry(entry, scores.absence) for entry in scores.entries],
        "matrices": {
            "rows": [defense.name for defense in results.defenses],
            "columns": [attack.name for attack in results.attacks],
            **{folder.rstrip("/") or "all": m for folder, m in _matrices(standings).items()},
        },
        "jobs": [{name: rounded(value) for name, value in _job(job).items()} for job in jobs],
        "manifest": json.loads(json.dumps(manifest, sort_keys=True)),
    }
    return _numbers_on_one_line(json.dumps(content, indent=2, ensure_ascii=False)) + "\n"


def _left_out(standings: Standings) -> list[Json]:
    """Each entry that scores nobody since it is incomplete, and whose rank that changed."""
    names = [score.entry.name for score in standings.scores.entries]
    return [
        {
            "name": names[left_out.entry],
            "ranks_without_and_with_it": {
                names[place]: ranks for place, ranks in left_out.changed.items()
            },
        }
        for left_out in standings.left_out
    ]


def _own_pairs(standings: Standings) -> dict[str, Json]:
    """What pairs of one team are taken to be: estimated, or left out."""
    scores, results = standings.scores, standings.results
    attacks = [entry.name for entry in results.attacks]
    defenses = [entry.name for entry in results.defenses]
    return {
        "estimated": [
            *([attacks[a], defenses[d]] for a, d in np.argwhere(scores.attack_side.estimated)),
            *([defenses[d], attacks[a]] for d, a in np.argwhere(scores.defense_side.estimated)),
        ],
        "left_out": [
            *([attacks[a], defenses[d]] for a, d in np.argwhere(scores.attack_side.left_out)),
            *([defenses[d], attacks[a]] for d, a in np.argwhere(scores.defense_side.left_out)),
        ],
    }


def _row(
    standings: Standings, index: int, score: EntryScore, interval: Interval
) -> LeaderboardRow:
    entry = score.entry
    pagerank_2017, pagerank, nash = (ranking.values[index] for ranking in standings.rankings)
    seconds = entry.seconds_per_100_images
    return LeaderboardRow(
        track=entry.type,
        rank=score.rank,
        submission=entry.name,
        score=standings.options.absence.plain(score.score),
        score_low=interval.score_low,
        score_high=interval.score_high,
        rank_low=interval.rank_low,
        rank_high=interval.rank_high,
        worst_case=_float(score.worst_case),
        gain_over_clean=_float(score.gain_over_clean),
        pagerank=pagerank,
        pagerank_2017=pagerank_2017,
        nash=nash,
        clean_accuracy=_float(score.clean_accuracy),
        coverage=float(score.coverage),
        images=score.images,
        projected_images=(
            None if entry.type is SubmissionType.DEFENSE else entry.projected_images
        ),
        median_seconds_per_100_images=median(seconds) if seconds else None,
        verdict=entry.verdict,
        baseline=entry.baseline,
        start_seconds=None if entry.run_times is None else entry.run_times.start,
        seconds_per_image=None if entry.run_times is None else entry.run_times.per_image,
    )


def _float(value: Fraction | None) -> float | None:
    return None if value is None else float(value)


def _job(job: JobRecord) -> dict[str, Cell]:
    return asdict(job) | {"note": _note(job.note)}


def _note(note: str) -> str:
    """A note as one printable line that no spreadsheet takes for a formula."""
    line = " ".join(note.split())
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
    return f"'{line}" if line.startswith(("=", "+", "-", "@")) else line


def _entry(score: EntryScore, absence: Absence) -> dict[str, Json]:
    """What an entry is, and what the leaderboard has no column for."""
    entry = score.entry
    return {
        "name": entry.name,
        "type": entry.type,
        "digest": entry.digest,
        "team": entry.team,
        "baseline": entry.baseline,
        "verdict": entry.verdict,
        "wave": entry.wave,
        "notes": entry.notes,
        "complete": score.complete,
        "valid": score.valid,
        "epsilons": [
            {
                "max_epsilon": epsilon.max_epsilon,
                "score": rounded(absence.plain(epsilon.score)),
                "worst_case": rounded(_float(epsilon.worst_case)),
            }
            for epsilon in score.epsilons
        ],
        "seconds_per_100_images": [rounded(seconds) for seconds in entry.seconds_per_100_images],
        "start_seconds": None if entry.run_times is None else rounded(entry.run_times.start),
        "seconds_per_image": None
        if entry.run_times is None
        else rounded(entry.run_times.per_image),
    }


def _matrices(standings: Standings) -> dict[str, dict[str, Matrix]]:
    """Every matrix, by its folder ("" is for all budgets together), then by its name.

    Labels that exist count whatever the absence rule is; without target classes no hit is known.
    """
    counts = standings.scores.tallies.all_labels
    budgets = standings.scores.tallies.max_epsilons
    groups = {"": slice(None)} | {f"eps-{e}/": slice(i, i + 1) for i, e in enumerate(budgets)}
    matrices: dict[str, NDArray[np.int64] | None] = {
        "accuracy_matrix": counts.correct,
        "error_matrix": counts.error,
        "hit_target_class_matrix": (
            None if standings.results.target_classes is None else counts.hit
        ),
    }
    empty: Matrix = [[None] * len(standings.results.attacks)] * len(standings.results.defenses)
    return {
        folder: {
            name: empty if matrix is None else matrix[budget].sum(axis=0).tolist()
            for name, matrix in matrices.items()
        }
        for folder, budget in groups.items()
    }


def _matrix_csv(results: Results, matrix: Matrix) -> str:
    header = ["", *(attack.name for attack in results.attacks)]
    lines = zip(results.defenses, matrix, strict=True)
    return csv_text([header, *([defense.name, *row] for defense, row in lines)])


def _numbers_on_one_line(text: str) -> str:
    """Put every list of numbers on one line; a string of JSON cannot hold the line breaks."""
    return _LIST_OF_NUMBERS.sub(lambda found: " ".join(found[0].split()), text)


_LIST_OF_NUMBERS = re.compile(r"\[\n(?:\s+(?:-?[0-9][0-9.e+-]*|null),?\n)+\s*\]")
