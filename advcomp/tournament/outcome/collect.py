"""From the store to the arrays that are scored; runs nothing."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from advcomp.errors import RunConflict
from advcomp.rules.verdict import Verdict
from advcomp.scoring.results import MISSING, Entry, JobRecord, Results
from advcomp.scoring.run_times import run_times
from advcomp.tournament.audit.record import without_refused
from advcomp.tournament.job.defense_views import CLEAN
from advcomp.tournament.job.opaque import Key, open_key
from advcomp.tournament.job.plan import (
    AttackJob,
    DefenseJob,
    Job,
    attack_jobs,
    attack_names,
    defense_jobs,
    result_of,
)
from advcomp.tournament.job.waves import (
    Column,
    ColumnSource,
    Wave,
    WaveImages,
    columns_of,
    load_waves,
    plan_waves,
)
from advcomp.tournament.store.job_results import JobResult, Store
from advcomp.tournament.store.state import KEY_FILE, EntryState, RunState, load_state


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What the store holds of a run, and which jobs it lacks.

    Args:
        jobs: Those that have a result, in the order in which they are listed.
        done: The same with all that is known of each, in the order of the plan.
    """

    results: Results
    jobs: tuple[JobRecord, ...]
    done: tuple[tuple[Job, JobResult], ...]
    unfinished: tuple[Job, ...]

    @property
    def provisional(self) -> bool:
        """Whether something lacks a result because of us."""
        return any(job.verdict is Verdict.INFRA for job in self.jobs)


def current_columns(state: RunState, store: Store) -> list[Column]:
    """The columns that the attacks' results make now, in the order of the tables."""
    results = ((job, result_of(store, job)) for job in attack_jobs(state))
    return columns_from(state, ((job, result) for job, result in results if result is not None))


def columns_from(state: RunState, results: Iterable[tuple[AttackJob, JobResult]]) -> list[Column]:
    """The columns that these results of attacks make, in the order of the jobs."""
    by_attack: dict[EntryState, list[tuple[ColumnSource, JobResult]]] = {}
    for job, result in results:
        source = ColumnSource(
            job=job.id,
            outputs=result.outputs,
            max_epsilon=job.max_epsilon,
            images=job.images,
        )
        by_attack.setdefault(job.entry, []).append((source, result))
    return [
        column
        for attack, jobs in by_attack.items()
        for column in columns_of(state, attack.first_name, jobs)
    ]


def collect(state: RunState, store: Store, key: Key, waves: Sequence[Wave]) -> Collected:
    """Read every stored result of a run's present entries, but of those that are refused.

    Raises:
        RunConflict: The audit that says which they are cannot be read.
    """
    return _collect(without_refused(state, store.run), store, key, waves)


def _collect(state: RunState, store: Store, key: Key, waves: Sequence[Wave]) -> Collected:
    planned = [(wave, WaveImages(state, store, wave)) for wave in waves]
    jobs: list[Job] = [*attack_jobs(state), *defense_jobs(state, key, planned)]
    loaded = [(job, result_of(store, job)) for job in jobs]
    done = tuple((job, result) for job, result in loaded if result is not None)
    records = (_record(result) for _, result in done)
    return Collected(
        results=_Arrays(state, store, waves).fill(done),
        jobs=tuple(sorted(records, key=lambda record: (record.stage, record.submission))),
        done=done,
        unfinished=tuple(job for job, result in loaded if result is None),
    )


def all_planned(state: RunState, store: Store, waves: Sequence[Wave]) -> bool:
    """Whether these waves hold all images that there are, so that no defense has more to see."""
    return plan_waves(waves, current_columns(state, store)) == waves


def collect_finished(run: Path, *, refuse: bool = True) -> tuple[RunState, Collected]:
    """The state and the results of a run in which nothing is left to do.

    Args:
        refuse: Whether to heed `[audit] refuse`.

    Raises:
        RunConflict: The folder is no run, or its run is not finished.
    """
    state = load_state(run)
    store, waves = Store(run), load_waves(run)
    gather = collect if refuse else _collect
    collected = gather(state, store, open_key(run / KEY_FILE, digest=state.key_digest), waves)
    if collected.unfinished:
        raise RunConflict(
            f"{run}: expected a finished run; {len(collected.unfinished)} jobs have no "
            f"result; `advcomp run {state.file} --out {run}` runs them"
        )
    if not all_planned(state, store, waves):
        raise RunConflict(
            f"{run}: expected a finished run; there are images that no defense was shown yet; "
            f"`advcomp run {state.file} --out {run}` goes on"
        )
    return state, collected


class _Arrays:
    """The arrays of `Results`, while they are filled."""

    def __init__(self, state: RunState, store: Store, waves: Sequence[Wave]) -> None:
        self.state, self.store = state, store
        attacks, defenses = len(state.attacks), len(state.defenses)
        images, pairs = len(state.dataset.image_ids), len(state.pairs)
        self.attack_index = {entry.name: i for i, entry in enumerate(state.attacks)}
        self.defense_index = {entry.name: i for i, entry in enumerate(state.defenses)}
        self.exists = np.zeros((attacks, pairs), np.bool_)
        self.predictions = np.full((defenses, attacks, pairs), MISSING, np.int16)
        self.clean_predictions = np.full((defenses, images), MISSING, np.int16)
        self.infra_pairs = np.zeros(pairs, np.bool_)
        self.infra_images = np.zeros(images, np.bool_)
        self.wave_of: dict[str, int] = {}
        self.names = attack_names(state)
        live = set(current_columns(state, store))
        self.columns = [self._columns(number, wave, live) for number, wave in enumerate(waves)]
        self.shards: dict[tuple[int, int], tuple[NDArray[np.intp], NDArray[np.intp]]] = {}

    def _columns(
        self, number: int, wave: Wave, live: Collection[Column]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Of M columns and N images: attacks (M,) and pairs (M, N), -1 where none counts."""
        attacks = np.zeros(len(wave.columns), np.intp)
        pairs = np.full((len(wave.columns), len(self.state.dataset.image_ids)), -1, np.intp)
        for index, column in enumerate(wave.columns):
            if column not in live:
                continue
            name = self.names[column.sources[0].job]
            attacks[index] = self.attack_index[name]
            self.wave_of[name] = number + 1
            for source in column.sources:
                pairs[index, list(source.images)] = [
                    self.state.pair_index[image, source.max_epsilon] for image in source.images
                ]
        return attacks, pairs

    def _shard(self, job: DefenseJob) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Images and columns of a job's items; every defense has the same shards."""
        key = job.wave, job.shard
        if key not in self.shards:
            self.shards[key] = job.items.images.astype(np.intp), job.items.columns.astype(np.intp)
        return self.shards[key]

    def fill(self, done: Sequence[tuple[Job, JobResult]]) -> Results:
        by_entry: dict[str, list[JobResult]] = {}
        for job, result in done:
            by_entry.setdefault(result.submission, []).append(result)
            if isinstance(job, AttackJob):
                self._take_attack(job, result)
            else:
                self._take_defense(job, result)

        def entry(state: EntryState) -> Entry:
            return self._entry(state, by_entry.get(state.name, ()))

        return Results(
            image_ids=self.state.dataset.image_ids,
            labels=self.state.labels_array(),
            target_classes=self.state.target_classes_array(),
            pair_image=np.array([pair.image for pair in self.state.pairs], np.intp),
            pair_max_epsilon=np.array([pair.max_epsilon for pair in self.state.pairs], np.int64),
            attacks=tuple(map(entry, self.state.attacks)),
            defenses=tuple(map(entry, self.state.defenses)),
            exists=self.exists,
            predictions=self.predictions,
            clean_predictions=self.clean_predictions,
            infra_pairs=self.infra_pairs,
            infra_images=self.infra_images,
        )

    def _take_attack(self, job: AttackJob, result: JobResult) -> None:
        pairs = [self.state.pair_index[image, job.max_epsilon] for image in job.images]
        if result.verdict is Verdict.INFRA:
            self.infra_pairs[pairs] = True
            return
        attack = self.attack_index[job.entry.name]
        self.exists[attack, pairs] = [bool(digest) for digest in result.png_digests]

    def _take_defense(self, job: DefenseJob, result: JobResult) -> None:
        defense = self.defense_index[job.entry.name]
        self.wave_of.setdefault(job.entry.name, job.wave + 1)  # jobs come wave by wave
        failed = result.verdict is Verdict.INFRA
        image, column = self._shard(job)
        labels = np.full(len(image), MISSING) if failed else self.store.labels(job.id)
        assert labels.shape == image.shape, f"{job.name}: {len(labels)} labels of {len(image)}"
        clean = column == CLEAN
        attacks, pairs = self.columns[job.wave]
        pair = np.full(len(image), -1)
        pair[~clean] = pairs[column[~clean], image[~clean]]
        counts = pair >= 0
        self.predictions[defense, attacks[column[counts]], pair[counts]] = labels[counts]
        self.infra_pairs[pair[counts]] |= failed
        if job.wave == 0:
            self.clean_predictions[defense, image[clean]] = labels[clean]
            self.infra_images[image[clean]] |= failed

    def _entry(self, entry: EntryState, own: Sequence[JobResult]) -> Entry:
        verdicts = [result.verdict for result in own]
        return Entry(
            name=entry.name,
            type=entry.type,
            digest=entry.digest,
            team=entry.team,
            baseline=entry.baseline,
            verdict=Verdict.REJECTED if entry.rejected else Verdict.first(verdicts),
            wave=self.wave_of.get(entry.name),
            seconds_per_100_images=tuple(
                100 * result.wall_seconds / result.images
                for result in own
                if result.verdict is not Verdict.INFRA
            ),
            run_times=run_times(
                [
                    (result.images, result.wall_seconds)
                    for result in own
                    if result.verdict is Verdict.OK
                ]
            ),
            projected_images=sum(result.projected_images for result in own),
            notes=entry.notes,
            refused=entry.refused,
            display=entry.display,
            url=entry.url,
        )


def _record(result: JobResult) -> JobRecord:
    return JobRecord(
        job=result.job,
        submission=result.submission,
        stage="attack" if result.stage == "attack" else "defense",
        epsilon=result.max_epsilon,
        shard=result.shard,
        images=result.images,
        valid=result.valid,
        verdict=result.verdict,
        exit_code=result.exit_code,
        signal=result.signal,
        wall_seconds=result.wall_seconds,
        cpu_seconds=result.cpu_seconds,
        max_rss_bytes=result.max_rss_bytes,
        note="; ".join(result.notes),
    )
