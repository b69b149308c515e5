"""How much of a log is shown to whom."""

from advcomp.rules.faults import Reason, tell
from advcomp.tournament.config import LogPolicy
from advcomp.tournament.store.job_results import JobResult

TAIL_LINES = 20
TAIL_BYTES = 4096
"""What `[logs] show = "tail"` lets a competitor see of each job's log."""


def log_for_competitor(log: bytes, policy: LogPolicy) -> bytes | None:
    """As much of a log as its competitor may see; None where that is nothing."""
    match policy:
        case LogPolicy.SMOKE:
            return None
        case LogPolicy.TAIL:
            return tail(log)
        case LogPolicy.FULL:
            return log


def reasons_for_competitor(result: JobResult) -> str:
    """Why outputs of a run are not valid: of a closed list, nothing that the run chose."""
    noun = "image" if result.stage == "attack" else "label"
    return "; ".join(tell((Reason(f) for f, count in result.faults for _ in range(count)), noun))


def tail(log: bytes) -> bytes:
    """The last lines of a log."""
    return b"\n".join(log[-TAIL_BYTES:].rstrip().splitlines()[-TAIL_LINES:])
