"""What runs on which node, and since when: written by the referee, read by `advcomp status`.

The referee tells for how long, by the monotonic clock; when it did is the file's own time.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FILE_NAME = "under_way.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobUnderWay:
    """One job: its name, its node's, and since when it runs, in seconds since 1970."""

    job: str
    node: str
    since: float


def load_under_way(run: Path) -> Sequence[JobUnderWay]:
    """The jobs of a run that are on nodes now; none where it runs on this machine."""
    try:
        with (run / FILE_NAME).open("rb") as file:
            told, written = json.load(file), os.fstat(file.fileno()).st_mtime
        return [
            JobUnderWay(job=each["job"], node=each["node"], since=written - each["seconds"])
            for each in told
        ]
    except (OSError, ValueError, TypeError, LookupError):
        return []
