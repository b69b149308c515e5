"""Looks at a run's folder again and again, and changes nothing there.

All is taken from files, never from the referee: so a look tells the same whoever works on the run,
and goes on over its end, its death and its resumption. What an earlier look has read and checked
is not read again, as long as its folder is the same one. What runs is told at each look; results
are read again when there are others, but never so often that it takes a whole processor.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from advcomp.errors import AdvcompError
from advcomp.live.failures import failures_of
from advcomp.live.snapshot import (
    Ended,
    Failure,
    Phase,
    RunningJob,
    RunSnapshot,
    Stage,
    Standing,
    Waiting,
)
from advcomp.live.standing import standings_at_last, standings_so_far
from advcomp.live.time_left import time_left
from advcomp.rules.verdict import Verdict
from advcomp.scoring.leaderboard import read_rows
from advcomp.tournament.job.opaque import KEY_BYTES, Key, open_key
from advcomp.tournament.job.plan import AttackJob, Job
from advcomp.tournament.job.waves import FILE_NAME as WAVES
from advcomp.tournament.job.waves import load_waves
from advcomp.tournament.outcome.collect import collect
from advcomp.tournament.outcome.outlook import Outlook
from advcomp.tournament.outcome.status import is_busy, remarks
from advcomp.tournament.outcome.under_way import JobUnderWay, load_under_way
from advcomp.tournament.store.job_results import JobResult, Store
from advcomp.tournament.store.state import FILE_NAME, KEY_FILE, RESULTS, RunState, load_state

LOOK_S = 0.5
"""Seconds between two looks, at least."""
SHARE = 4
"""Times what something took of a processor that pass before it is done again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What is the same until a file changes."""

    state: RunState
    outlook: Outlook
    results: Mapping[str, JobResult]
    remarks: tuple[str, ...]
    so_far: tuple[Standing, ...]
    at_last: tuple[Standing, ...] | None
    failures: tuple[Failure, ...]
    more_failures: int
    by_name: Mapping[str, Job]
    ended: Mapping[str, Ended]


class RunWatch:
    """One run, looked at as often as one likes.

    Args:
        run: Its folder.
        clock: Seconds since 1970.
    """

    def __init__(self, run: Path, clock: Callable[[], float] = time.time) -> None:
        self.run = run
        self._clock = clock
        self._store = Store(run)
        self._folders: Mapping[str, int] = {}
        self._stamp: object = None
        self._read: _Read | None = None
        self._workers = 0
        self._told_took_s = 0.0
        self._read_took_s = 0.0
        self._read_at_s = 0.0

    @property
    def pause_s(self) -> float:
        """How long to wait before the next look."""
        return max(LOOK_S, SHARE * self._told_took_s)

    def look(self) -> RunSnapshot:
        """What the folder tells now.

        What cannot be read since it is just being replaced is told as it was.

        Raises:
            RunConflict: The folder is no run, and nobody is about to make it one.
        """
        busy = is_busy(self.run)
        try:
            if self._is_due:
                self._read_again()
        except (OSError, AdvcompError):
            if self._read is None and not (busy and not (self.run / FILE_NAME).exists()):
                raise
        began = time.thread_time()
        snapshot = self._reading() if self._read is None else self._told(self._read, busy)
        self._told_took_s = time.thread_time() - began
        return snapshot

    @property
    def _is_due(self) -> bool:
        """Whether to read what has changed, which takes long in a large run."""
        if self._read is None or self._read_took_s < LOOK_S:
            return True
        return time.monotonic() - self._read_at_s >= SHARE * self._read_took_s

    def _read_again(self) -> None:
        """Read what has changed."""
        folders = _folders(self.run / "jobs")
        if any(folders.get(name) != inode for name, inode in self._folders.items()):
            self._store = Store(self.run)  # something was replaced or taken out
        stamp = (
            folders,
            *(_stamp(self.run / name) for name in (FILE_NAME, WAVES)),
            _stamp(self.run / RESULTS / "results.json"),
        )
        if stamp != self._stamp or self._read is None:
            self._folders = folders
            began = time.thread_time()
            self._read = _read(self.run, self._store)
            self._read_took_s = time.thread_time() - began
            self._read_at_s = time.monotonic()
            self._stamp = stamp

    def _told(self, read: _Read, busy: bool) -> RunSnapshot:
        now = self._clock()
        under_way = [
            job
            for job in (load_under_way(self.run) if busy else ())
            if job.job in read.by_name and not _is_done(read.results.get(job.job))
        ]
        seconds = {job.job: max(0.0, now - job.since) for job in under_way}
        self._workers = max(self._workers, len(under_way)) if busy else 0
        pending = [
            job for job in read.outlook.jobs if job.name not in read.results or job.name in seconds
        ]
        finished = not busy and not pending and read.at_last is not None
        return RunSnapshot(
            tournament=read.state.name,
            at=now,
            phase=Phase.FINISHED if finished else _phase(read, pending, seconds, busy),
            images=len(read.state.dataset.image_ids),
            max_epsilons=read.state.max_epsilons,
            sandbox=read.state.sandbox.name,
            remarks=read.remarks,
            stages=tuple(_stages(read, pending)),
            time_left_seconds=(
                time_left(read.outlook, pending, seconds, self._workers) if busy else None
            ),
            running=tuple(_running(read, job, seconds[job.job]) for job in under_way),
            waiting=tuple(_waiting(job for job in pending if job.name not in seconds)),
            leaderboard=read.at_last if finished and read.at_last else read.so_far,
            failures=read.failures,
            more_failures=read.more_failures,
            logs=read.state.logs.show,
            ended=read.ended,
        )

    def _reading(self) -> RunSnapshot:
        """A run whose entries are being read for the first time."""
        return RunSnapshot(
            tournament=self.run.name,
            at=self._clock(),
            phase=Phase.READING,
            images=0,
            max_epsilons=(),
            sandbox="",
            remarks=(),
            stages=(),
            time_left_seconds=None,
            running=(),
            waiting=(),
            leaderboard=(),
            failures=(),
            more_failures=0,
            logs="",
            ended={},
        )


def looks(watch: RunWatch, first: RunSnapshot) -> Iterator[RunSnapshot]:
    """A first look and those after it, the last one when the run has finished."""
    snapshot = first
    while True:
        yield snapshot
        if snapshot.phase is Phase.FINISHED:
            return
        time.sleep(watch.pause_s)
        snapshot = watch.look()


def _read(run: Path, store: Store) -> _Read:
    state = load_state(run)
    waves = load_waves(run)
    outlook = Outlook(run, state, store)
    made = state.key_digest
    key = open_key(run / KEY_FILE, digest=made) if waves else Key(bytes(KEY_BYTES))
    collected = collect(state, store, key, waves)
    results = {
        job.name: result for job in outlook.jobs if (result := store.load(job.id)) is not None
    }
    waiting: dict[str, int] = {}
    for job in outlook.jobs:
        waiting[job.entry.name] = waiting.get(job.entry.name, 0) + (job.name not in results)
    so_far = standings_so_far(collected.results, waiting, _verdicts(state, results.values()))
    failures, more = failures_of(state, store, outlook.jobs)
    return _Read(
        state=state,
        outlook=outlook,
        results=results,
        remarks=tuple(remarks(run)),
        so_far=so_far,
        at_last=_at_last(run / RESULTS, so_far),
        failures=failures,
        more_failures=more,
        by_name={job.name: job for job in outlook.jobs},
        ended={name: _ended(result) for name, result in results.items()},
    )


def _at_last(folder: Path, so_far: Sequence[Standing]) -> tuple[Standing, ...] | None:
    if not (folder / "results.json").is_file():
        return None
    return standings_at_last(read_rows(folder), so_far)


def _verdicts(state: RunState, results: Iterable[JobResult]) -> dict[str, str | None]:
    """Each entry's verdict as it stands; None where nothing of it has ended."""
    own: dict[str, list[Verdict]] = {}
    for result in results:
        own.setdefault(result.submission, []).append(result.verdict)
    return {
        entry.name: Verdict.REJECTED
        if entry.rejected
        else Verdict.first(own[entry.name])
        if entry.name in own
        else None
        for entry in state.entries
    }


def _phase(read: _Read, pending: Sequence[Job], running: Mapping[str, float], busy: bool) -> Phase:
    """Where a run is that has not finished."""
    if not busy:
        return Phase.STOPPED
    at_work = [read.by_name[name] for name in running] or pending
    if any(isinstance(job, AttackJob) for job in at_work):
        return Phase.ATTACKS
    return Phase.DEFENSES if at_work else Phase.RESULTS


def _stages(read: _Read, pending: Sequence[Job]) -> Iterator[Stage]:
    for stage in ("attack", "defense"):
        jobs = sum(_stage(job) == stage for job in read.outlook.jobs)
        left = sum(_stage(job) == stage for job in pending)
        yield Stage(stage=stage, jobs=jobs, done=jobs - left)


def _running(read: _Read, under_way: JobUnderWay, seconds: float) -> RunningJob:
    job = read.by_name[under_way.job]
    measured = read.outlook.is_measured(job.entry)
    return RunningJob(
        job=job.name,
        entry=job.entry.name,
        stage=_stage(job),
        node=under_way.node or None,
        seconds=seconds,
        expected_seconds=read.outlook.expected_s(job) if measured else None,
    )


def _waiting(jobs: Iterable[Job]) -> Iterator[Waiting]:
    counts: dict[tuple[str, str], int] = {}
    for job in jobs:
        key = job.entry.name, _stage(job)
        counts[key] = counts.get(key, 0) + 1
    for (entry, stage), number in counts.items():
        yield Waiting(entry=entry, stage=stage, jobs=number)


def _ended(result: JobResult) -> Ended:
    return Ended(
        job=result.job,
        entry=result.submission,
        stage=result.stage,
        verdict=result.verdict,
        seconds=result.wall_seconds,
        images=result.images,
        valid=result.valid,
    )


def _is_done(result: JobResult | None) -> bool:
    return result is not None and result.verdict is not Verdict.INFRA


def _stage(job: Job) -> str:
    return "attack" if isinstance(job, AttackJob) else "defense"


def _folders(jobs: Path) -> dict[str, int]:
    """The folders of results, and which ones they are."""
    try:
        with os.scandir(jobs) as entries:
            return {each.name: each.inode() for each in entries if each.name[0] != "."}
    except (FileNotFoundError, NotADirectoryError):
        return {}


def _stamp(path: Path) -> tuple[int, int] | None:
    """What is another value once a file has been replaced."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_ino, found.st_mtime_ns
