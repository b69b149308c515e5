"""`advcomp watch` and `advcomp status --watch`: a run while it goes on."""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from advcomp.live.access import access_to
from advcomp.live.following import RunWatch, looks
from advcomp.live.live_page import page
from advcomp.live.snapshot import Phase, RunningJob, RunSnapshot, Standing
from advcomp.rules.durable import write_named_file
from advcomp.rules.printable import printable
from advcomp.terminal.console_tables import table_of
from advcomp.terminal.extras import extra_at_hand
from advcomp.terminal.run_command import near
from advcomp.terminal.text import count, one_line, whole

PHASES = {
    Phase.READING: "entries are being read",
    Phase.ATTACKS: "attacks make their images",
    Phase.DEFENSES: "defenses answer",
    Phase.RESULTS: "results are being written",
    Phase.STOPPED: "stopped; nobody works on it",
    Phase.FINISHED: "finished",
}
LATEST = 5
"""Failures that are listed; the rest is counted."""
LONGEST = 8
"""Running jobs that are listed; the rest is counted."""


def watch_in_terminal(run: Path) -> None:
    """Show how a run goes on, until it has finished or Ctrl-C.

    Raises:
        RunConflict: The folder is no run.
    """
    watch = RunWatch(run)
    first = watch.look()
    with Live(_shown(first), console=Console(), auto_refresh=False, transient=False) as live:
        for snapshot in looks(watch, first):
            live.update(_shown(snapshot), refresh=True)


def write_page(run: Path, out: Path) -> None:
    """Write the page of a run as it is now, as one file.

    Raises:
        RunConflict: The folder is no run.
    """
    html = page(RunWatch(run).look())
    write_named_file(out, html.encode())
    print(f"page: {near(out)}")


def serve_in_terminal(run: Path, port: int, address: str | None, token: str | None) -> None:
    """Serve the page of a run until Ctrl-C.

    Args:
        run: Its folder.
        port: 0 is any that is free.
        address: To listen on; None: the loopback interface.
        token: What who asks must know.

    Raises:
        RunConflict: The folder is no run.
        InvalidConfig: Others could see the page without a token, or the address cannot be had.
        MissingExtra: starlette or uvicorn is not installed.
    """
    access = access_to(address, token)
    with extra_at_hand("serve"):
        from advcomp.live.server import address_of, listening, serve
    watch = RunWatch(run)
    watch.look()
    with listening(access, port) as place:
        print(f"{address_of(access, place)}  (Ctrl-C ends it; the run goes on)", flush=True)
        serve(watch, access, place)


def _shown(snapshot: RunSnapshot) -> RenderableType:
    return Group(*(Text(part) if isinstance(part, str) else part for part in _parts(snapshot)))


def _parts(snapshot: RunSnapshot) -> Iterator[RenderableType]:
    yield f"{one_line(snapshot.tournament)}: {PHASES[snapshot.phase]}{_left(snapshot)}"
    if snapshot.stages:
        yield ", ".join(
            f"{stage.stage} jobs {stage.done:,} of {stage.jobs:,}" for stage in snapshot.stages
        )
    headings = {"track": False, "#": True, "entry": False, "score": True, "answers": True}
    if snapshot.leaderboard:
        yield table_of({**headings, "verdict": False}, map(_row, snapshot.leaderboard))
    longest = sorted(snapshot.running, key=lambda job: -job.seconds)
    yield from (_job(job) for job in longest[:LONGEST])
    if len(longest) > LONGEST:
        yield f"and {len(longest) - LONGEST:,} more that run"
    if waiting := sum(item.jobs for item in snapshot.waiting):
        yield f"{count(waiting, 'job')} waiting"
    for failure in snapshot.failures[:LATEST]:
        why = f": {failure.why}" if failure.why else ""
        yield one_line(f"{failure.job or failure.entry} {failure.verdict}{why}")
    if (more := len(snapshot.failures) - LATEST + snapshot.more_failures) > 0:
        yield f"and {more:,} more that are not OK"
    yield from map(printable, snapshot.remarks)


def _left(snapshot: RunSnapshot) -> str:
    if snapshot.time_left_seconds is None:
        return ""
    if snapshot.time_left_seconds < 0.5:
        return "; takes longer than it seemed"
    return f"; about {whole(snapshot.time_left_seconds)} left in all"


def _row(standing: Standing) -> tuple[str, ...]:
    score = standing.score
    told = "" if score is None else f"{score:.3f}" if isinstance(score, float) else f"{score:,}"
    return (
        standing.track.replace("_", " "),
        "" if standing.rank is None else str(standing.rank),
        standing.submission,
        f"{told} so far" if told and standing.provisional else told,
        f"{standing.answers:,}/{standing.expected:,}",
        standing.verdict or "",
    )


def _job(job: RunningJob) -> str:
    place = f" on {job.node}" if job.node else ""
    usual = "" if job.expected_seconds is None else f" (about {whole(job.expected_seconds)})"
    return one_line(f"{job.job} runs{place} for {whole(job.seconds)}{usual}")
