"""What runs on which node, and since when: written by the referee, read by `advcomp status`."""

import json
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
        told = json.loads((run / FILE_NAME).read_bytes())
        return [JobUnderWay(**each) for each in told]
    except (OSError, ValueError, TypeError):
        return []
