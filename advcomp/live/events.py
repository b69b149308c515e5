"""What happened between two looks at a run, for machines; see docs/reference/events.md."""

from collections.abc import Iterator
from dataclasses import asdict

from advcomp.live.snapshot import VERSION, Json, Phase, RunSnapshot


def events_between(before: RunSnapshot | None, after: RunSnapshot) -> Iterator[Json]:
    """The events, in their order; at first, and when the run has finished, the whole state."""
    if before is None:
        yield after.as_json()
        return
    for name, ended in after.ended.items():
        if before.ended.get(name) != ended:
            yield _event("ended", after, asdict(ended))
    if before.phase is not after.phase:
        yield _event("phase", after, {"phase": after.phase})
    known = {job.job for job in before.running}
    for job in after.running:
        if job.job not in known:
            yield _event(
                "started",
                after,
                {"job": job.job, "entry": job.entry, "stage": job.stage, "node": job.node},
            )
    if before.leaderboard != after.leaderboard:
        rows = [asdict(row) for row in after.leaderboard]
        yield _event("leaderboard", after, {"leaderboard": rows})
    if after.phase is Phase.FINISHED and before.phase is not after.phase:
        yield after.as_json()


def _event(name: str, at: RunSnapshot, more: Json) -> Json:
    return {"version": VERSION, "event": name, "at": at.at, **more}
