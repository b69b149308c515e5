"""Time and memory of judging a tournament of 2017's size: all scores, rankings and intervals.

156 attacks (65 of them targeted), 107 defenses, 5,000 images, four budgets in turn, 1,000
resamples. The labels are drawn from a model of skills, and a few entries are incomplete, as some
were. Run it with `python benchmarks/rankings.py`.
"""

import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.threat import Schedule, schedule_pairs
from advcomp.scoring.game import rankings
from advcomp.scoring.intervals import bootstrap
from advcomp.scoring.publish import write_results
from advcomp.scoring.results import MISSING, Entry, Results
from advcomp.scoring.scores import Absence, score
from advcomp.scoring.standings import ScoringOptions

ATTACKS, TARGETED_ATTACKS, DEFENSES, IMAGES, CLASSES = 91, 65, 107, 5000, 1000
BUDGETS = (4, 8, 12, 16)
INCOMPLETE = 3
ROUNDS = 1000


def tournament(seed: int = 0) -> Results:
    """A tournament of 2017's size."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(1, CLASSES + 1, IMAGES).astype(np.int16)
    targets = (labels % CLASSES + 1).astype(np.int16)
    attacks = tuple(_entry("attack", i, SubmissionType.ATTACK) for i in range(ATTACKS)) + tuple(
        _entry("targeted", i, SubmissionType.TARGETED_ATTACK) for i in range(TARGETED_ATTACKS)
    )
    defenses = tuple(_entry("defense", i, SubmissionType.DEFENSE) for i in range(DEFENSES))
    predictions = _predictions(generator, labels, targets)
    predictions[:INCOMPLETE, 0, 0] = MISSING
    pairs = schedule_pairs(IMAGES, BUDGETS, Schedule.ROUND_ROBIN)
    return Results(
        image_ids=tuple(f"{i:05d}" for i in range(IMAGES)),
        labels=labels,
        target_classes=targets,
        pair_image=np.array([pair.image for pair in pairs]),
        pair_max_epsilon=np.array([pair.max_epsilon for pair in pairs]),
        attacks=attacks,
        defenses=defenses,
        exists=np.ones((len(attacks), IMAGES), dtype=bool),
        predictions=predictions.take([pair.image for pair in pairs], axis=2),
        clean_predictions=np.broadcast_to(labels, (DEFENSES, IMAGES)),
        infra_pairs=np.zeros(IMAGES, dtype=bool),
        infra_images=np.zeros(IMAGES, dtype=bool),
    )


def _entry(kind: str, number: int, submission_type: SubmissionType) -> Entry:
    return Entry(name=f"{kind}-{number:03d}", type=submission_type)


def _predictions(
    generator: np.random.Generator, labels: NDArray[np.int16], targets: NDArray[np.int16]
) -> NDArray[np.int16]:
    """Labels (D, A, N): wrong by skill of attack and defense, and of the image's resistance."""
    strength = generator.normal(size=ATTACKS + TARGETED_ATTACKS)
    resistance = generator.normal(size=IMAGES)
    predictions = np.empty((DEFENSES, len(strength), IMAGES), np.int16)
    for defense in predictions:
        skill = generator.normal()
        for attack, power in enumerate(strength):
            odds = power - skill - resistance + generator.normal(size=IMAGES, scale=0.3)
            fooled = targets if attack >= ATTACKS else (labels + 1) % CLASSES
            defense[attack] = np.where(odds > 0, fooled, labels)
    return predictions


def main() -> None:
    results = tournament()
    print(f"labels: {results.predictions.nbytes / 2**20:.0f} MiB, peak memory {_peak()}")
    with _timed("scores"):
        scores = score(results, Absence.PAPER)
    with _timed("rankings"):
        rankings(results, scores)
    with _timed(f"intervals, {ROUNDS} rounds"):
        bootstrap(results, scores, rounds=ROUNDS, seed=0)
    with tempfile.TemporaryDirectory() as folder, _timed("all of it, and the files"):
        write_results(Path(folder), results, [], ScoringOptions(bootstrap=ROUNDS), {})


@contextmanager
def _timed(what: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - begin:.2f} s, peak memory {_peak()}")


def _peak() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB"


if __name__ == "__main__":
    main()
