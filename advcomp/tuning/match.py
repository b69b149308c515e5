"""An entry's row of a tournament, alone: some settings of it against some of the others."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from advcomp.rules.dataset import Dataset
from advcomp.rules.threat import Schedule
from advcomp.rules.verdict import Verdict
from advcomp.scoring.results import JobRecord
from advcomp.tournament.config import Tournament
from advcomp.tournament.entry.entries import EntryList, EntrySource
from advcomp.tournament.job.executors import Stop
from advcomp.tournament.outcome.collect import Collected
from advcomp.tournament.runner import RunObserver, RunOptions, all_jobs, play
from advcomp.tournament.store.job_results import JobResult, Store
from advcomp.tournament.store.state import ENTRIES, load_state
from advcomp.tournament.store.state import FILE_NAME as STATE


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialMatch:
    """Who meets whom on what.

    Args:
        opponents: Of the other side.
        options: Of the run; `out` is where its parts are kept.
        inside: The path of the settings file in the entry.
    """

    tournament: Tournament
    dataset: Dataset
    entry: EntrySource
    opponents: tuple[EntrySource, ...]
    options: RunOptions
    inside: str

    def play(
        self, settings: Path, images: Sequence[int], observer: RunObserver, stop: Stop
    ) -> Collected | None:
        """Let the entry with these settings meet all opponents; None where it was stopped.

        What the parts' folders hold of it already is not run again. Budgets are a grid, whatever
        the tournament's schedule: a round-robin has too few images here.

        Args:
            images: Ascending indices of images.

        Raises:
            AdvcompError: See `run_tournament`.
        """
        entry = replace(self.entry, files={**self.entry.files, self.inside: settings})
        grid = self.tournament.threat.model_copy(update={"schedule": Schedule.GRID})
        tournament = self.tournament.model_copy(update={"threat": grid})
        dataset = self.dataset.part(images)
        return play(
            tournament,
            EntryList(sources=(entry, *self.opponents)),
            replace(self.options, out=self._folder / dataset.digest[:12]),
            observer,
            stop,
            lambda run, state, collected: collected,
            dataset=dataset,
        )

    def forget(self) -> None:
        """Remove what an entry with other settings would have to make anew."""
        for run in self._folder.glob(f"*/{STATE}"):
            _forget(run.parent, self.entry.name)

    @property
    def _folder(self) -> Path:
        assert self.options.out is not None
        return self.options.out


def _forget(run: Path, name: str) -> None:
    state, store = load_state(run), Store(run)
    (entry,) = (each for each in state.entries if each.name == name)
    for job in all_jobs(run, state, store):
        if entry.is_attack or job.entry == entry:  # what met an attack's images has met them
            store.delete(job.id)
    if entry.digest:
        shutil.rmtree(run / ENTRIES / entry.digest, ignore_errors=True)


def failures_in(met: Collected) -> dict[str, str]:
    """Of every entry some of whose runs failed, how they ended, and the first note on it."""
    runs: dict[str, list[JobRecord]] = {}
    for job in met.jobs:
        runs.setdefault(job.submission, []).append(job)
    told = {}
    for name, jobs in runs.items():
        if failed := [job for job in jobs if job.verdict is not Verdict.OK]:
            verdict = Verdict.first([job.verdict for job in failed])
            note = next((f": {job.note}" for job in failed if job.note), "")
            told[name] = f"{verdict} in {len(failed)} of its runs ({len(jobs)} in all){note}"
    return told


def order_of(dataset: Dataset, seed: int) -> list[int]:
    """All images in the order in which trials meet them, drawn with the seed."""
    drawn = np.random.Generator(np.random.PCG64(seed)).permutation(len(dataset))
    return [int(index) for index in drawn]


def parts_of(images: int, first: int, growth: int) -> tuple[int, ...]:
    """How many images are met when a trial is compared: first, first x growth, ..., all."""
    counts = []
    while first < images:
        counts.append(first)
        first *= growth
    return (*counts, images)


class Unwatched:
    """A run's observer that tells nobody: a trial is shown by what came out."""

    def note(self, text: str) -> None:
        """Nothing."""

    def reading(self, entries: int) -> None:
        """Nothing."""

    def read(self, entry: str) -> None:
        """Nothing."""

    def stage(self, title: str, jobs: int, stored: int, cost: float, later: float) -> None:
        """Nothing."""

    def started(self, job: str) -> None:
        """Nothing."""

    def finished(self, result: JobResult, cost: float) -> None:
        """Nothing."""
