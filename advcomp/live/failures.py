"""What went wrong in a run, as much of it as its competitors may see."""

from collections.abc import Iterator, Sequence

from advcomp.live.snapshot import Failure
from advcomp.rules.printable import printable
from advcomp.rules.verdict import Verdict
from advcomp.scoring.report.wording import without_host_paths
from advcomp.tournament.job.plan import Job
from advcomp.tournament.outcome.disclosure import log_for_competitor, reasons_for_competitor, tail
from advcomp.tournament.outcome.ending import ending
from advcomp.tournament.store.job_results import JobResult, Store
from advcomp.tournament.store.state import RunState

MOST = 50
"""Failures that are shown, the latest."""


def failures_of(
    state: RunState, store: Store, jobs: Sequence[Job]
) -> tuple[tuple[Failure, ...], int]:
    """Rejected entries, then jobs that are not OK, the latest first; how many more there are.

    Args:
        state: What the run is about.
        store: Of the run.
        jobs: Those that may have ended.
    """
    found = [
        (store.ended_ns(job.id), job, result)
        for job in jobs
        if (result := store.load(job.id)) is not None and result.verdict is not Verdict.OK
    ]
    found.sort(key=lambda item: (-item[0], item[1].name))
    shown = tuple(_failure(state, store, job, result) for _, job, result in found[:MOST])
    return (*_rejected(state), *shown), len(found) - len(shown)


def _rejected(state: RunState) -> Iterator[Failure]:
    for entry in state.entries:
        if entry.rejected:
            yield Failure(
                job=None,
                entry=entry.name,
                verdict=Verdict.REJECTED,
                seconds=None,
                why=_shown("; ".join(entry.notes)),
                log=None,
            )


def _failure(state: RunState, store: Store, job: Job, result: JobResult) -> Failure:
    log = log_for_competitor(store.log(job.id), state.logs.show)
    reasons = [*ending(result), *filter(None, [reasons_for_competitor(result)])]
    return Failure(
        job=job.name,
        entry=job.entry.name,
        verdict=result.verdict,
        seconds=result.wall_seconds,
        why=_shown("; ".join(reasons)),
        log=None if log is None else _shown(tail(log)),
    )


def _shown(text: str | bytes) -> str:
    return without_host_paths(printable(text))
