"""What a run takes while no job of it is at work, by the `referee.log` of the last whole one.

Entries are read and nodes get ready before the first job, results are written after the last, and
a job is staged, its images decoded and its result stored between them. What of that happens while
another job is at work costs nothing, and is not counted.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from advcomp.tournament.store.run_log import logged

_RUNNER = "advcomp.tournament.runner"
_JOB = re.compile(r".+: \w+ in (\d+\.\d) s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """Seconds without a job.

    Args:
        ends_s: Before the first job and after the last.
        job_s: Between them, for each job.
    """

    ends_s: float
    job_s: float

    def of(self, jobs: int) -> float:
        """Seconds of a run of so many jobs."""
        return self.ends_s + self.job_s * jobs if jobs else 0.0


def around(run: Path) -> Around | None:
    """As it was in the last start of a run that did jobs and wrote results; None without one."""
    found, began, jobs = None, None, list[tuple[float, float]]()
    for at, message in logged(run, _RUNNER):
        if message.endswith(" entries to read"):
            began, jobs = at, []
        elif job := _JOB.fullmatch(message):
            jobs.append((at - float(job[1]), at))
        elif message.startswith("results written") and began is not None and jobs:
            found = _around(began, sorted(jobs), at)
    return found


def _around(start: float, jobs: list[tuple[float, float]], ended: float) -> Around:
    """By the times at which jobs began and ended, in the order of their beginnings."""
    ends = [jobs[0][1]]
    for _, end in jobs[1:]:
        ends.append(max(ends[-1], end))
    idle = sum(max(0.0, began - end) for (began, _), end in zip(jobs[1:], ends[:-1], strict=True))
    return Around(
        ends_s=max(0.0, jobs[0][0] - start) + max(0.0, ended - ends[-1]), job_s=idle / len(jobs)
    )
