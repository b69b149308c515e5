"""The day on which a run began, which its report tells, and that of an audit."""

from datetime import UTC, datetime
from pathlib import Path

from advcomp.tournament.store.state import FILE_NAME, load_state

__all__ = ["began", "today"]


def began(run: Path) -> str:
    """The day of a run's first start, which is today where there was none: `2026-01-31`."""
    known = load_state(run).began if (run / FILE_NAME).exists() else ""
    return known or today()


def today() -> str:
    """This day, in UTC: `2026-01-31`."""
    return datetime.now(UTC).date().isoformat()
