"""When both stages of a run will be done, from what has been measured so far."""

from collections.abc import Mapping, Sequence

from advcomp.tournament.job.plan import AttackJob, DefenseJob, Job
from advcomp.tournament.outcome.outlook import Outlook, makespan


def time_left(
    outlook: Outlook, pending: Sequence[Job], running: Mapping[str, float], workers: int
) -> float | None:
    """Seconds until the last job ends; None where nothing has been measured yet.

    An entry that has not run is taken to need as much of what it may as the others did.

    Args:
        outlook: Of the run.
        pending: Jobs that have no result, those that run among them.
        running: Name of a job that runs -> for how many seconds.
        workers: Sandboxes at once.
    """
    share = _share_of_limits(outlook)
    if share is None or workers < 1:
        return None

    def left(job: Job) -> float:
        known = outlook.is_measured(job.entry)
        whole = outlook.expected_s(job) if known else share * outlook.limit_s(job)
        return max(0.0, whole - running.get(job.name, 0.0))

    stages: Sequence[type[Job]] = (AttackJob, DefenseJob)
    return sum(
        makespan([left(job) for job in pending if isinstance(job, stage)], workers)
        for stage in stages
    )


def _share_of_limits(outlook: Outlook) -> float | None:
    """What the jobs that ended took of what they might."""
    limits = outlook.state.limits
    may = sum(limits.for_images(result.images).wall_s for result in outlook.stored)
    return sum(result.wall_seconds for result in outlook.stored) / may if may else None
