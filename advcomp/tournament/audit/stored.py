"""The labels that a run has stored, found by what was shown."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from advcomp.rules.verdict import Verdict
from advcomp.scoring.results import MISSING
from advcomp.tournament.job.defense_views import Item
from advcomp.tournament.job.plan import DefenseJob
from advcomp.tournament.job.waves import Wave
from advcomp.tournament.store.job_results import Store


class StoredLabels:
    """The labels of one defense, by wave, column and source image.

    Args:
        jobs: All of the defense's.
        images: Source images of the tournament.
    """

    def __init__(
        self, store: Store, jobs: Iterable[DefenseJob], waves: Sequence[Wave], images: int
    ) -> None:
        # The last row is that of the clean images, whose column is -1.
        shapes = [(len(wave.columns) + 1, images) for wave in waves]
        self._labels = [np.full(shape, MISSING, np.int16) for shape in shapes]
        self._known = [np.zeros(shape, np.bool_) for shape in shapes]
        for job in jobs:
            result = store.load(job.id)
            if result is not None and result.verdict is not Verdict.INFRA:
                place = _places(job.items)
                self._labels[job.wave][place] = store.labels(job.id)
                self._known[job.wave][place] = True

    def of(self, wave: int, items: Sequence[Item]) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
        """The labels of items (n,), and which of them are known: a first wave's clean ones are."""
        place = _places(items)
        labels, known = self._labels[wave][place], self._known[wave][place]
        clean = (place[0] < 0) & ~known
        labels[clean] = self._labels[0][-1, place[1][clean]]
        known[clean] = self._known[0][-1, place[1][clean]]
        return labels, known


def _places(items: Sequence[Item]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return (
        np.array([item.column for item in items], np.intp),
        np.array([item.image for item in items], np.intp),
    )
