"""How much of a log is shown to whom."""

from advcomp.tournament.config import LogPolicy

TAIL_LINES = 20
TAIL_BYTES = 4096
"""What `[logs] show = "tail"` lets a competitor see of each job's log."""


def for_competitor(log: bytes, policy: LogPolicy) -> bytes | None:
    """As much of a log as its competitor may see; None where that is nothing."""
    match policy:
        case LogPolicy.SMOKE:
            return None
        case LogPolicy.TAIL:
            return tail(log)
        case LogPolicy.FULL:
            return log


def tail(log: bytes) -> bytes:
    """The last lines of a log."""
    return b"\n".join(log[-TAIL_BYTES:].rstrip().splitlines()[-TAIL_LINES:])
