"""The jobs of a run that may not have begun, and how long they may take.

Every attack that has no result yet is taken to write every image.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from advcomp.rules.verdict import Verdict
from advcomp.scoring.run_times import RunTimes, run_times
from advcomp.tournament.job.defense_views import cut
from advcomp.tournament.job.ingest import images_at_once
from advcomp.tournament.job.opaque import open_key
from advcomp.tournament.job.plan import (
    AttackJob,
    DefenseJob,
    Job,
    attack_jobs,
    cost_of,
    defense_jobs,
    images_of,
    result_of,
)
from advcomp.tournament.job.waves import Wave, WaveImages, load_waves, plan_waves
from advcomp.tournament.outcome.collect import columns_from
from advcomp.tournament.store.job_results import JobResult, Store
from advcomp.tournament.store.state import KEY_FILE, EntryState, RunState


class Outlook:
    """The jobs of a run that may not have begun; `stored` are the results of those that ended.

    Args:
        store: Of the run, where one has been read already.
    """

    def __init__(self, run: Path, state: RunState, store: Store | None = None) -> None:
        self.state = state
        store = store or Store(run)
        attacks = list(attack_jobs(state))
        self.jobs: list[Job] = [*attacks, *_defense_jobs(run, state, store, attacks)]
        self.missing = [job for job in self.jobs if not store.is_done(job.id)]
        self.stored: list[JobResult] = []
        ended: dict[str, list[JobResult]] = {}
        for job in self.jobs:
            result = result_of(store, job)
            if result is not None and result.verdict is not Verdict.INFRA:
                self.stored.append(result)
                ended.setdefault(job.entry.name, []).append(result)
        self._times = {name: times_of(results) for name, results in ended.items()}

    def limit_s(self, job: Job) -> float:
        """What a job may take."""
        return cost_of(self.state, job)

    def is_measured(self, entry: EntryState) -> bool:
        """Whether anything of an entry has run before."""
        return entry.name in self._times

    def expected_s(self, job: Job) -> float:
        """What a job of a measured entry will take, if it is like the entry's others."""
        return self._times[job.entry.name].of(images_of(job))

    def starts(self, job: Job) -> int:
        """Sandboxes to start for a job: its own, and those that decode an attack's images."""
        if isinstance(job, DefenseJob):
            return 1
        size = self.state.dataset.height, self.state.dataset.width
        return 1 + -(-len(job.images) // images_at_once(*size))

    def wall_s(self, seconds: Callable[[Job], float], workers: int) -> float:
        """Wall time of the two stages, one after the other, longest jobs first."""
        stages = (AttackJob, DefenseJob)
        return sum(
            makespan([seconds(job) for job in self.missing if isinstance(job, stage)], workers)
            for stage in stages
        )

    def expected_wall_s(self, workers: int) -> float | None:
        """Wall time from what was measured; None where an entry never ran."""
        if not all(self.is_measured(job.entry) for job in self.missing):
            return None
        return self.wall_s(self.expected_s, workers)


def times_of(ended: Sequence[JobResult]) -> RunTimes:
    """What a start and an image take an entry, by its jobs that have ended; at least one has.

    Where they are too much of one size to tell, all is taken to be the images': by the median.
    """
    told = run_times([(result.images, result.wall_seconds) for result in ended])
    if told is not None:
        return told
    image_s = median(result.wall_seconds / result.images for result in ended)
    return RunTimes(start=0.0, per_image=image_s)


def _defense_jobs(
    run: Path, state: RunState, store: Store, attacks: Sequence[AttackJob]
) -> Iterator[DefenseJob]:
    """The jobs of all defenses, where every attack that has no result yet writes every image."""
    results = {job.id: _result(store, job) for job in attacks}
    columns = columns_from(state, ((job, results[job.id]) for job in attacks))
    old = load_waves(run)
    waves = plan_waves(old, columns)
    planned = [(wave, WaveImages(state, store, wave)) for wave in waves if wave in old]
    if planned:
        yield from defense_jobs(state, open_key(run / KEY_FILE, digest=state.key_digest), planned)
    for number, wave in enumerate(waves[len(planned) :], start=len(planned)):
        # Sizes and numbers of shards do not depend on the secret offsets.
        offsets = [0] * len(state.dataset.image_ids)
        shards = cut(state.view, _exists(wave, results, offsets), offsets, first_wave=number == 0)
        for entry in (entry for entry in state.defenses if not entry.rejected):
            for shard, items in shards.items():
                name = f"{entry.name}-wave{number + 1}-{shard}"
                yield DefenseJob(
                    id=f"{name}?", name=name, entry=entry, wave=number, shard=shard, items=items
                )


def _result(store: Store, job: AttackJob) -> JobResult:
    """The result of an attack's job; a full one where there is none."""
    result = result_of(store, job)
    if result is not None and store.is_done(job.id):
        return result
    return JobResult(
        job=job.name,
        submission=job.entry.name,
        stage="attack",
        max_epsilon=job.max_epsilon,
        shard=job.shard,
        images=len(job.images),
        valid=len(job.images),
        verdict=Verdict.OK,
        png_digests=("?",) * len(job.images),
    )


def _exists(
    wave: Wave, results: Mapping[str, JobResult], images: Sequence[int]
) -> NDArray[np.bool_]:
    exists = np.zeros((len(wave.columns), len(images)), np.bool_)
    for number, column in enumerate(wave.columns):
        for source in column.sources:
            digests = results[source.job].png_digests
            exists[number, list(source.images)] = [bool(digest) for digest in digests]
    return exists


def makespan(seconds: Iterable[float], workers: int) -> float:
    """When the last job ends, if each of `workers` takes the longest one that is left."""
    ends = [0.0] * workers
    for job_s in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + job_s)
    return max(ends)
