"""`advcomp run` in a terminal: progress, Ctrl-C, and what to look at afterwards."""

import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from advcomp.errors import INTERRUPTED, AdvcompError
from advcomp.rules.receive import DISK_IS_FULL
from advcomp.rules.verdict import Verdict
from advcomp.sandbox.base import UNWALLED
from advcomp.sandbox.probe import open_sandbox
from advcomp.scoring.leaderboard import LeaderboardRow, read_leaderboard
from advcomp.terminal.console_tables import show_leaderboard
from advcomp.terminal.interrupts import stopping_on_signals
from advcomp.terminal.run_events import events_printed
from advcomp.terminal.run_progress import display_on
from advcomp.terminal.text import count
from advcomp.tournament.config import load_tournament
from advcomp.tournament.job.executors import LOCAL, Stop
from advcomp.tournament.opening import folder_of
from advcomp.tournament.outcome.reports import REPORT
from advcomp.tournament.outcome.status import remarks, results_of
from advcomp.tournament.runner import (
    Finished,
    RunOptions,
    rescore,
    run_tournament,
    take_out,
)
from advcomp.tournament.store.state import load_state

PROVISIONAL = 3
"""Exit code of a run that lacks results because of the sandbox."""


def run_in_terminal(options: RunOptions, *, json: bool = False) -> int:
    """Run a tournament, show how it goes and what came out; returns the exit code.

    Args:
        options: Of the run.
        json: Print events on standard output, and no table.

    Raises:
        AdvcompError: As `run_tournament`, or there is no room for the results.
    """
    run = folder_of(load_tournament(options.file), options.out)
    resume = resume_line(replace(options, out=run))
    with events_printed(run) if json else nullcontext():
        finished = play(options, run, resume)
    if finished.results is None:
        return INTERRUPTED
    if json:
        return exit_code(finished, resume)
    return show_finished(finished, finished.results, resume)


def play(options: RunOptions, run: Path, resume: str) -> Finished:
    """Run a tournament in the folder `run`, and show how it goes; `resume` goes on with it.

    Raises:
        AdvcompError: As `run_tournament`, or there is no room for the results.
    """
    stop = Stop()
    try:
        with stopping_on_signals(stop, resume), display_on(sys.stderr) as display:
            finished = run_tournament(options, display, stop)
    except OSError as error:
        if error.errno not in DISK_IS_FULL:
            raise
        raise AdvcompError(
            f"{error.filename or run}: expected room for the entries and results; got: "
            f"{error.strerror}; make room there, or in {tempfile.gettempdir()} for temporary "
            f"files, then go on with: {resume}"
        ) from error
    if finished.results is None:
        print(f"stopped; to go on: {resume}", file=sys.stderr)
    return finished


def rescore_in_terminal(run: Path) -> int:
    """Rebuild the results of a run, and say where they are; returns the exit code.

    Raises:
        RunConflict: See `rescore`.
    """
    finished = rescore(run)
    print(f"results: {near(results_of(run))}")
    return exit_code(finished, resume_line(options_of(run)))


def rerun_in_terminal(
    run: Path, submissions: Sequence[str], jobs: int | None, *, trusting: bool = False
) -> int:
    """Take results of submissions out of a run, and run them again; returns the exit code.

    Raises:
        AdvcompError: The run has no such submission, or see `run_in_terminal`.
    """
    options = replace(options_of(run), jobs=jobs, trusting=trusting)
    load_tournament(options.file)  # before anything is taken out
    open_sandbox(load_state(run).sandbox.name, trusting=trusting).close()
    for submission in submissions:
        taken = take_out(run, submission)
        print(f"{submission}: took out {count(taken, 'result')}", file=sys.stderr)
    return run_in_terminal(options)


def options_of(run: Path) -> RunOptions:
    """What `advcomp run` is told to go on with a run."""
    state = load_state(run)
    return RunOptions(file=Path(state.file), out=run, backend=state.sandbox.name)


def resume_line(options: RunOptions) -> str:
    """The command that goes on with a run."""
    words: list[str | Path] = ["advcomp", "run", near(options.file)]
    if options.out is not None:
        words += ["--out", near(options.out)]
    if options.backend is not None:
        words += ["--sandbox", options.backend]
        words += ["--i-trust-these-submissions"] if options.backend == UNWALLED else []
    if options.jobs is not None:
        words += ["--jobs", str(options.jobs)]
    if options.executor != LOCAL:
        words += ["--executor", options.executor]
    if options.cluster is not None:
        words += ["--cluster", options.cluster]
    if options.scheduler is not None:
        words += ["--scheduler", options.scheduler]
    if options.key is not None:
        words += ["--key", near(options.key)]
    if options.replan:
        words.append("--replan")
    return shlex.join(map(str, words))


def near(path: Path) -> Path:
    """`path` as it is seen from here, where it lies below; else absolute."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - links on the way stay as they are
    here = Path.cwd()
    return absolute.relative_to(here) if absolute.is_relative_to(here) else absolute


def show_finished(finished: Finished, results: Path, resume: str) -> int:
    """Show a finished run's leaderboard and what to know about it; returns the exit code."""
    rows, said = read_leaderboard(results)
    show_leaderboard(rows)
    for line in (*failures(finished.run, rows), *said, *remarks(finished.run)):
        print(line)
    print_places(results)
    return exit_code(finished, resume)


def print_places(results: Path) -> None:
    """Say where the results of a run are, and its report as a browser takes it."""
    print(f"results: {near(results)}")
    print(f"report: {(results / REPORT).resolve().as_uri()}")


def exit_code(finished: Finished, resume: str) -> int:
    """The exit code of a run with results; says what to do where they are provisional."""
    if not finished.provisional:
        return 0
    print(
        "advcomp: the results are provisional: jobs have no result because the sandbox failed "
        f"(verdict INFRA); `advcomp doctor` looks for the cause; to try them again: {resume}",
        file=sys.stderr,
    )
    return PROVISIONAL


def failures(run: Path, rows: Sequence[LeaderboardRow]) -> list[str]:
    """A line for every entry that did not go well, and how to find out why."""
    failed = [row for row in rows if row.verdict != Verdict.OK]
    if not failed:
        return []
    return [
        f"{count(len(failed), 'entry', 'entries')} not OK:",
        *(f"  {row.submission}: {row.verdict}" for row in failed),
        f"  to see why: advcomp logs {shlex.quote(str(near(run)))} NAME",
    ]
