"""Mounts that tests of a killed session left: pytest cannot delete what they lie in, and fails."""

import getpass
import subprocess
import tempfile
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")


def unmount_leftovers(top: Path | None = None) -> list[Path]:
    """Let go of all below the temporary folders of this user's dead sessions; what it was.

    Args:
        top: Where pytest keeps the folders of sessions.
    """
    top = top or Path(tempfile.gettempdir(), f"pytest-of-{getpass.getuser()}").resolve()
    left = [place for place in _mounted_below(top) if not _is_alive(_session_of(place, top))]
    for place in left:
        subprocess.run(["umount", "--lazy", str(place)], check=True, capture_output=True)
    return left


def _mounted_below(top: Path) -> list[Path]:
    """Last mounted first."""
    lines = MOUNTS.read_text().splitlines()
    places = [Path(line.split(" ")[4]) for line in reversed(lines)]
    return [place for place in places if place.is_relative_to(top) and place != top]


def _session_of(place: Path, top: Path) -> Path:
    return top / place.relative_to(top).parts[0]


def _is_alive(session: Path) -> bool:
    """Whether the process whose pid stands in a session's lock runs; who removed it has ended."""
    try:
        return Path("/proc", (session / ".lock").read_text().strip() or "none").exists()
    except OSError:
        return False
