"""`advcomp status` and `advcomp logs`: how far a run is, and what its jobs printed."""

import shlex
import time
from pathlib import Path

from advcomp.rules.printable import printable
from advcomp.scoring.processors import scarcity
from advcomp.terminal.console_tables import show, table_of
from advcomp.terminal.run_command import near, options_of, resume_line
from advcomp.terminal.run_progress import job_line
from advcomp.terminal.text import count, duration, one_line, size, whole
from advcomp.tournament.config import LogPolicy
from advcomp.tournament.outcome.disclosure import log_for_competitor, reasons_for_competitor
from advcomp.tournament.outcome.ending import ending
from advcomp.tournament.outcome.status import (
    EntryStatus,
    JobLog,
    RunStatus,
    logs_of,
    planned_jobs,
    remarks,
    status_of,
)
from advcomp.tournament.outcome.under_way import JobUnderWay
from advcomp.tournament.outcome.verifying import verify_run
from advcomp.tournament.store.state import load_state

ENTRY_HEADINGS = {"entry": False, "type": False, "team": False, "done": True, "verdict": False}
SLOW = 3
"""Times its estimate a job may run before it is said to be slow."""
JOB_HEADINGS = {
    "job": False,
    "verdict": False,
    "time": True,
    "CPU time": True,
    "memory": True,
    "ending": False,
}


def print_status(run: Path) -> None:
    """Print how far a run is.

    Raises:
        RunConflict: The folder is no run.
    """
    status = status_of(run)
    state = status.state
    print(f"{state.name}: {_progress(run, status)}")
    print(
        f"{count(len(state.dataset.image_ids), 'image')}, epsilons "
        f"{', '.join(map(str, state.max_epsilons))}, schedule {state.schedule}, "
        f"view {state.view}, {count(status.waves, 'wave')}, sandbox {state.sandbox.name}, "
        f"limits {state.sandbox.limit_tier}"
    )
    show(table_of(ENTRY_HEADINGS, map(_entry_cells, status.entries)))
    for job in status.under_way:
        print(printable(_running_line(job, status.estimates.get(job.job))))
    for entry in status.entries:
        for note in entry.entry.notes:
            print(f"{entry.entry.name}: {one_line(note)}")
    for remark in remarks(run):
        print(remark)
    ended = [result for entry in status.entries for result in entry.results]
    if (scarce := scarcity(ended, state.limits.cpus)) is not None:
        print(f"processors: scarce ({scarce})")


def print_verified(run: Path, *, drop: bool) -> int:
    """Print whether a run's files are what was written; returns the exit code.

    Raises:
        RunConflict: See `verify_run`.
    """
    found = verify_run(run, drop=drop)
    compared = f"{count(found.results, 'result')}, {count(found.copies, 'copy', 'copies')}"
    if not found.damaged:
        print(f"{compared} of entries: all are what was written")
        return 0
    print(f"{compared} of entries: {len(found.damaged)} damaged, or changed by hand:")
    for path in found.damaged:
        print(f"  {near(path)}")
    if not drop:
        print(f"to take damaged results out: advcomp verify {shlex.quote(str(near(run)))} --drop")
    print(f"to make again what is missing: {resume_line(options_of(run))}")
    return 1


def print_jobs(run: Path) -> None:
    """Print every job that has ended, as a list to choose from.

    Raises:
        RunConflict: The folder is no run.
    """
    results = [result for _, result in planned_jobs(run, load_state(run)) if result is not None]
    rows = (
        (
            result.job,
            result.verdict,
            duration(result.wall_seconds),
            "" if result.cpu_seconds is None else duration(result.cpu_seconds),
            "" if result.max_rss_bytes is None else size(result.max_rss_bytes),
            "; ".join(ending(result)),
        )
        for result in results
    )
    show(table_of(JOB_HEADINGS, rows))
    print(f"to read one: advcomp logs {shlex.quote(str(near(run)))} JOB")


def print_logs(run: Path, name: str, *, competitor: bool) -> None:
    """Print what a job, or every job of an entry, wrote to its log; harmless to a terminal.

    Args:
        name: Of the entry or the job.
        competitor: Only what the tournament file lets competitors see.

    Raises:
        RunConflict: The folder is no run.
        InvalidConfig: It has no such entry or job.
    """
    state = load_state(run)
    logs = logs_of(run, name)
    entry = next((entry for entry in state.entries if entry.name == name), None)
    for note in entry.notes if entry is not None else ():
        print(f"{name}: {one_line(note)}")
    if competitor and state.logs.show is LogPolicy.SMOKE:
        print(
            'Logs of the tournament\'s own runs are not shown ([logs] show = "smoke"), since they '
            "could carry hidden images out; `advcomp validate` shows the log of a trial run."
        )
    for log in logs:
        _print_log(log, state.logs.show if competitor else None)


def _print_log(log: JobLog, policy: LogPolicy | None) -> None:
    """One log under its heading; a competitor's heading has no notes: they name hidden images."""
    result = log.result
    if policy is None:
        print(f"== {job_line(result)}")
        shown: bytes | None = log.log
    else:
        reasons = reasons_for_competitor(result)
        told = f": {reasons}" if reasons else ""
        print(f"== {result.job} {result.verdict} {duration(result.wall_seconds)}{told}")
        shown = log_for_competitor(log.log, policy)
    if shown is not None:
        text = printable(shown).rstrip("\n")
        print(text or "(it printed nothing)")


def _progress(run: Path, status: RunStatus) -> str:
    done = sum(len(entry.results) for entry in status.entries)
    jobs = sum(entry.jobs for entry in status.entries)
    if status.busy:
        return f"running; {done:,} of {count(jobs, 'job')} done that are planned by now"
    if status.results is not None and done == jobs:
        return f"finished; {count(jobs, 'job')} done; results: {near(status.results)}"
    resume = resume_line(options_of(run))
    return f"not finished; {done:,} of {count(jobs, 'job')} done; to go on: {resume}"


def _running_line(job: JobUnderWay, estimate_s: float | None) -> str:
    """What a job is at; named as slow where it takes much longer than its entry's others did."""
    runs_s = time.time() - job.since
    place = f" on {job.node}" if job.node else ""
    line = f"{job.job} runs{place} for {whole(runs_s)}"
    if estimate_s is None or runs_s <= SLOW * estimate_s:
        return line
    times = f"{runs_s / estimate_s:.0f} times" if estimate_s else "longer than"
    whose = "that node" if job.node else "this machine"
    return f"{line}, {times} its estimate of {duration(estimate_s)}: is {whose} slow?"


def _entry_cells(status: EntryStatus) -> tuple[str, ...]:
    entry = status.entry
    team = " ".join(filter(None, [entry.team, "(baseline)" if entry.baseline else ""]))
    if entry.rejected:
        done = ""
    elif not status.jobs:
        done = "waits"
    else:
        done = f"{len(status.results)}/{status.jobs}"
    return entry.name, entry.type, team, done, status.verdict or ""
