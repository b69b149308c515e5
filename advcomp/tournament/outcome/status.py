"""What a run folder holds: how far the run is, and what its jobs printed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from advcomp.errors import InvalidConfig, RunConflict
from advcomp.rules.verdict import Verdict
from advcomp.sandbox.base import UNWALLED, LimitTier
from advcomp.sandbox.cache.steady import CacheState
from advcomp.tournament.audit.record import load_audit, without_refused
from advcomp.tournament.job.defense_views import DefenseView
from advcomp.tournament.job.opaque import open_key
from advcomp.tournament.job.plan import Job, attack_jobs, defense_jobs, images_of, result_of
from advcomp.tournament.job.waves import WaveImages, load_waves
from advcomp.tournament.outcome.outlook import times_of
from advcomp.tournament.outcome.under_way import JobUnderWay, load_under_way
from advcomp.tournament.store.job_results import JobResult, Store
from advcomp.tournament.store.state import (
    INSECURE,
    KEY_FILE,
    RESULTS,
    EntryState,
    RunState,
    load_state,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryStatus:
    """How far one entry is.

    Args:
        jobs: Its jobs that are planned by now; a defense has none before the attacks are done.
        results: Those of them that have ended.
    """

    entry: EntryState
    jobs: int
    results: tuple[JobResult, ...]

    @property
    def verdict(self) -> Verdict | None:
        """Its verdict as it stands; None where nothing of it has ended."""
        if self.entry.rejected:
            return Verdict.REJECTED
        return Verdict.first([result.verdict for result in self.results]) if self.results else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """How far a run is.

    Args:
        entries: Attacks, then defenses, in the order of the tables.
        waves: How many waves are planned.
        busy: Whether a process works on it now.
        under_way: What runs now, and where.
        estimates: Names of those jobs -> what each will take, by the entry's others (seconds).
        results: The folder of its results, once it was finished.
    """

    state: RunState
    entries: tuple[EntryStatus, ...]
    waves: int
    busy: bool
    results: Path | None
    under_way: Sequence[JobUnderWay] = ()
    estimates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLog:
    """What one job printed; raw bytes, to be escaped before they are shown."""

    result: JobResult
    log: bytes


def status_of(run: Path) -> RunStatus:
    """Look at a run folder; it may be in use.

    Raises:
        RunConflict: The folder is no run.
    """
    state = load_state(run)
    jobs = list(planned_jobs(run, state))
    by_entry: dict[str, list[JobResult | None]] = {}
    for job, result in jobs:
        by_entry.setdefault(job.entry.name, []).append(result)
    results = run / RESULTS
    busy = is_busy(run)
    under_way = load_under_way(run) if busy else ()
    return RunStatus(
        state=state,
        entries=tuple(
            _entry_status(entry, by_entry.get(entry.name, ()))
            for entry in (*state.attacks, *state.defenses)
        ),
        waves=len(load_waves(run)),
        busy=busy,
        under_way=under_way,
        estimates=_estimates(under_way, jobs),
        results=results if (results / "results.json").is_file() else None,
    )


def planned_jobs(run: Path, state: RunState) -> Iterator[tuple[Job, JobResult | None]]:
    """Every job that is planned by now, with its result where it has one."""
    store = Store(run)
    planned = [(wave, WaveImages(state, store, wave)) for wave in load_waves(run)]
    yield from ((job, result_of(store, job)) for job in attack_jobs(state))
    if planned:
        key = open_key(run / KEY_FILE, digest=state.key_digest)
        yield from ((job, result_of(store, job)) for job in defense_jobs(state, key, planned))


def logs_of(run: Path, name: str) -> list[JobLog]:
    """What a job printed, or every job of an entry.

    Args:
        name: The name of an entry, or of a job as `verdicts.csv` has it.

    Raises:
        RunConflict: The folder is no run.
        InvalidConfig: It has no entry and no job of this name.
    """
    state = load_state(run)
    jobs = list(planned_jobs(run, state))
    names = {entry.name for entry in state.entries}
    own = [(job, result) for job, result in jobs if name in (job.name, job.entry.name)]
    if not own and name not in names:
        raise InvalidConfig(
            f'{run}: there is no entry and no job "{name}"; there are the entries '
            f"{', '.join(sorted(names))}, and their jobs as `advcomp logs {run}` lists them"
        )
    store = Store(run)
    return [
        JobLog(result=result, log=store.log(job.id)) for job, result in own if result is not None
    ]


def results_of(run: Path) -> Path:
    """The folder of a run's results.

    Raises:
        RunConflict: The folder is no run, or has no results yet.
    """
    state = load_state(run)
    results = run / RESULTS
    if not (results / "results.json").is_file():
        raise RunConflict(
            f"{run}: expected a finished run; there are no results yet; "
            f"`advcomp run {state.file} --out {run}` goes on with it"
        )
    return results


PAGE_CACHE = {
    CacheState.HELD: "ulimit -l or too little memory keeps it from being locked: it is mapped, "
    "which only a lack of memory undoes, and read in again between runs of one team",
    CacheState.OPEN: "what one run reads, a later one can tell",
    CacheState.RESTORED: "too little memory for all that boxes share: some large files are "
    "dropped between the stages and between runs of one team",
}
"""What is to be said of a state that is not the best."""


def remarks(run: Path) -> list[str]:
    """What must be said wherever the results of a run are shown.

    Raises:
        RunConflict: The folder is no run.
    """
    state = load_state(run)
    lines = []
    if state.sandbox.name == UNWALLED:
        lines.append("sandbox: none (unofficial: submissions ran as plain processes)")
    if state.sandbox.limit_tier is LimitTier.WEAK:
        lines.append(
            "limits: weak (no control groups here: memory and processes are only watched)"
        )
    lines += [
        f"page cache: {kept} ({PAGE_CACHE[kept]})"
        for kept in state.page_cache
        if kept in PAGE_CACHE and state.sandbox.name != UNWALLED
    ]
    if INSECURE in state.machine:
        lines.append("network: insecure (what nodes were sent could be read and changed there)")
    lines += _refused(run, state)
    if state.view is DefenseView.POOLED:
        lines.append("unofficial (pooled view: a defense sees all versions of an image together)")
    return lines


def _refused(run: Path, state: RunState) -> Iterator[str]:
    """Who is left out of the scores since the audit flagged it, or that there was no audit."""
    if not state.audit.refuse:
        return
    if load_audit(run, state) is None:
        yield f"[audit] refuse: nothing is left out yet; `advcomp audit {run}` looks"
    for entry in without_refused(state, run).entries:
        if entry.refused:
            yield f"{entry.name}: {entry.notes[-1]}"


def is_busy(run: Path) -> bool:
    """Whether a process holds the lock of a run folder.

    Asks the kernel's list: trying the lock itself could refuse a run that starts just now.
    """
    lock = run / "lock"
    if not lock.exists():
        return False
    held = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    return any(
        line.split()[5].endswith(f":{lock.stat().st_ino}") for line in held if "->" not in line
    )


def _estimates(
    under_way: Sequence[JobUnderWay], jobs: Sequence[tuple[Job, JobResult | None]]
) -> dict[str, float]:
    names = {each.job for each in under_way}
    running = [job for job, _ in jobs if job.name in names]
    ended: dict[str, list[JobResult]] = {job.entry.name: [] for job in running}
    for job, result in jobs:
        if job.entry.name in ended and result and result.verdict is not Verdict.INFRA:
            ended[job.entry.name].append(result)
    return {
        job.name: times_of(own).of(images_of(job))
        for job in running
        if (own := ended[job.entry.name])
    }


def _entry_status(entry: EntryState, own: Sequence[JobResult | None]) -> EntryStatus:
    return EntryStatus(
        entry=entry,
        jobs=len(own),
        results=tuple(result for result in own if result is not None),
    )
