"""Runs a tournament in a process of its own and reports what it did to that process.

    harness.py FILE OUT BACKEND REPORT JOBS [KEY]

Orphans of the boxes would become this process's children (it is their subreaper), so that one
that is left shows here and nowhere else.
"""

import ctypes
import json
import os
import re
import select
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from support.contest import Watcher
from support.control_groups import control_groups
from support.processes import children, text_of

from advcomp.tournament.job.executors import Stop
from advcomp.tournament.runner import RunOptions, run_tournament
from advcomp.tournament.store.job_results import JobResult

PR_SET_CHILD_SUBREAPER = 36
ENGINES = ("conmon", "podman", "exe")
"""Programs of Podman, and what gVisor is called when it starts itself."""
ENGINES_S = 10.0


@dataclass
class Timekeeper(Watcher):
    """A watcher that also notes how long after the one before each job ended."""

    longest_wait_s: float = 0.0
    _last: float = 0.0

    def stage(self, title: str, jobs: int, stored: int, cost: float, later: float) -> None:
        super().stage(title, jobs, stored, cost, later)
        self._last = time.monotonic()

    def finished(self, result: JobResult, cost: float) -> None:
        super().finished(result, cost)
        now = time.monotonic()
        self.longest_wait_s = max(self.longest_wait_s, now - self._last)
        self._last = now


def peak_bytes() -> int:
    """Peak of this process's memory; unlike ru_maxrss it starts anew with the program."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    assert found is not None
    return int(found[1]) * 1024


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def bury_the_engines() -> None:
    """Wait for what Podman and gVisor have beside each container until that is cleared away.

    Elsewhere the machine's first process waits for it; here it has become our child.
    """
    for pid in children(os.getpid()):
        if text_of(pid, "comm").strip() in ENGINES:
            ended = os.pidfd_open(pid)
            if select.select([ended], [], [], ENGINES_S)[0]:
                os.waitpid(pid, 0)
            os.close(ended)


def main(options: RunOptions, report: Path) -> None:
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    before_bytes, before_fds = peak_bytes(), descriptors()
    watcher = Timekeeper()
    run_tournament(options, watcher, Stop())
    bury_the_engines()
    content = {
        "results": [asdict(result) for result in watcher.results],
        "notes": watcher.notes,
        "longest_wait_s": watcher.longest_wait_s,
        "grown_bytes": peak_bytes() - before_bytes,
        "descriptors_left": descriptors() - before_fds,
        "children_left": children(os.getpid()),
        "control_groups_left": [str(group) for group in control_groups(os.getpid())],
        "mounts_left": [
            line
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if str(options.file.parent) in line
        ],
    }
    report.write_text(json.dumps(content))


if __name__ == "__main__":
    file, out, backend, report, jobs, *key = sys.argv[1:]
    main(
        RunOptions(
            file=Path(file),
            out=Path(out),
            backend=backend,
            jobs=int(jobs),
            key=Path(key[0]) if key else None,
        ),
        Path(report),
    )
