"""What defenses answered in replays, beside what they answered in the run."""

import io
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from advcomp.scoring.audit.finding import AuditCheck, Finding
from advcomp.scoring.audit.replayed import Labels, gain_of_defense, of_defense, together
from advcomp.scoring.results import MISSING, Results
from advcomp.tournament.audit.attack_answers import Remade
from advcomp.tournament.audit.conduct import Replayed
from advcomp.tournament.audit.endings import Endings
from advcomp.tournament.audit.stored import StoredLabels
from advcomp.tournament.job.defense_views import CLEAN
from advcomp.tournament.job.plan import DefenseJob
from advcomp.tournament.job.waves import Wave
from advcomp.tournament.store.job_results import LABELS
from advcomp.tournament.store.state import RunState


class DefenseAnswers:
    """The labels of all defenses' replays.

    Args:
        results: The run's own answers.
        waves: Of the run.
        stored: By the defense's name.
    """

    def __init__(
        self,
        state: RunState,
        results: Results,
        waves: Sequence[Wave],
        stored: Mapping[str, StoredLabels],
        endings: Endings,
    ) -> None:
        self._state, self._results, self._stored = state, results, stored
        self._endings = endings
        number = {entry.name: i for i, entry in enumerate(results.attacks)}
        self._attacks = [
            np.array([*(number.get(c.attack, CLEAN) for c in wave.columns), CLEAN], np.intp)
            for wave in waves
        ]
        self._labels: dict[tuple[str, AuditCheck], list[Labels]] = defaultdict(list)
        self._judged: list[tuple[str, AuditCheck, Labels]] = []

    def take(self, done: Replayed) -> None:
        """Compare a replay with the run."""
        job = done.replay.job
        assert isinstance(job, DefenseJob)
        if not self._endings.compare(done):
            return
        before, known = self._stored[job.entry.name].of(job.wave, job.items)
        columns = np.array([item.column for item in job.items], np.intp)
        images = np.array([item.image for item in job.items], np.intp)
        self._labels[job.entry.name, done.replay.check].append(
            Labels(
                image=images[known],
                attack=self._attacks[job.wave][columns[known]],
                before=before[known],
                after=_labels_in(done)[known],
            )
        )

    def take_judged(self, done: Replayed, check: AuditCheck, shown: Sequence[Remade]) -> None:
        """Compare the answers to images that were made anew with those to the run's."""
        if self._endings.compare(done):
            name = done.replay.job.entry.name
            self._judged.append((name, check, self._beside(name, shown, _labels_in(done))))

    def take_known(self, defense: str, check: AuditCheck, made: Sequence[Remade]) -> None:
        """Images that need not be shown: they came out as they were, or not at all."""
        before = self._beside(defense, made, np.full(len(made), MISSING, np.int16))
        is_same = np.array([each.is_same for each in made], np.bool_)
        after = np.where(is_same, before.before, before.after)
        self._judged.append((defense, check, replace(before, after=after)))

    def _beside(self, defense: str, made: Sequence[Remade], after: NDArray[np.int16]) -> Labels:
        row = [entry.name for entry in self._results.defenses].index(defense)
        names = [entry.name for entry in self._results.attacks]
        attack = np.array([names.index(each.attack) for each in made], np.intp)
        pairs = [self._state.pair_index[each.image, each.max_epsilon] for each in made]
        return Labels(
            image=np.array([each.image for each in made], np.intp),
            attack=attack,
            before=self._results.predictions[row, attack, np.array(pairs, np.intp)],
            after=after,
        )

    def findings(self) -> Iterator[Finding]:
        """One for every defense and condition, not judged yet."""
        truth, seed = self._results.labels, self._state.seed
        randomised = {entry.name: entry.randomised for entry in self._state.defenses}
        for (name, check), parts in self._labels.items():
            labels = together(parts)
            yield of_defense(
                check,
                name,
                labels,
                truth,
                randomised=randomised[name],
                seed=seed,
                note=self._endings.note(name, check),
            )
            if check is AuditCheck.RENAMED:
                yield gain_of_defense(name, labels, truth, seed)

    def renamed(self, without: Collection[str]) -> Labels:
        """Labels for images that were renamed, of all defenses but some."""
        parts = [
            part
            for (name, check), found in self._labels.items()
            if check is AuditCheck.RENAMED and name not in without
            for part in found
        ]
        return together(parts)

    def judged(self, check: AuditCheck, without: Collection[str]) -> Labels:
        """Labels for images that attacks made under a condition, of all defenses but some."""
        return together(
            [part for name, why, part in self._judged if why is check and name not in without]
        )


def _labels_in(done: Replayed) -> NDArray[np.int16]:
    labels: NDArray[np.int16] = np.load(io.BytesIO(done.files[LABELS]), allow_pickle=False)
    return labels
