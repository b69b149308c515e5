"""What runs where, and since when: written by the referee, read by whoever looks at the run.

The referee tells for how long, by the monotonic clock; when it did is the file's own time. What a
killed referee left is told by nobody: it is read only while the run's folder is in use, and the
next referee removes it first.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from advcomp.rules.plain_file import open_plain_file

FILE_NAME = "under_way.json"

HERE = ""
"""The node of a job that runs on the referee's own machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobUnderWay:
    """One job: its name, its node's, and since when it runs, in seconds since 1970."""

    job: str
    node: str
    since: float


def load_under_way(run: Path) -> Sequence[JobUnderWay]:
    """The jobs of a run that are being done now."""
    try:
        with open_plain_file(run / FILE_NAME) as file:
            told, written = json.load(file), os.fstat(file.fileno()).st_mtime
        return [
            JobUnderWay(job=each["job"], node=each["node"], since=written - each["seconds"])
            for each in told
        ]
    except (OSError, ValueError, TypeError, LookupError):
        return []


def write_under_way(run: Path, jobs: Sequence[tuple[str, str, float]]) -> None:
    """Write what runs: name, node, and for how many seconds.

    It is for onlookers: a disk without room does not end the run here.
    """
    told = [{"job": job, "node": node, "seconds": seconds} for job, node, seconds in jobs]
    partial = run / f".{FILE_NAME}.partial"
    with suppress(OSError):
        partial.write_text(json.dumps(told), encoding="utf-8")
        partial.replace(run / FILE_NAME)


def forget_under_way(run: Path) -> None:
    """Nothing runs, or the referee that told so is dead."""
    (run / FILE_NAME).unlink(missing_ok=True)


class UnderWayHere:
    """Tells what the threads of this process do.

    Args:
        run: The run's folder.
        clock: Seconds, which never go back.
    """

    def __init__(self, run: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._run, self._clock = run, clock
        self._since: dict[str, float] = {}
        self._writing = threading.Lock()

    @contextmanager
    def doing(self, job: str) -> Iterator[None]:
        """A job runs as long as the `with` block lasts."""
        with self._writing:
            self._since[job] = self._clock()
            self._tell()
        try:
            yield
        finally:
            with self._writing:
                del self._since[job]
                self._tell()

    def _tell(self) -> None:
        now = self._clock()
        write_under_way(
            self._run, [(job, HERE, now - since) for job, since in self._since.items()]
        )
