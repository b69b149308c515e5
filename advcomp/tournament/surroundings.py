"""What a run needs of its surroundings: made fit once, or refused, before anything runs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from advcomp.sandbox.limits.harness_limits import fit_for_boxes
from advcomp.tournament.config import Tournament

__all__ = ["make_run_folder", "settled"]

UMASK = 0o022
"""Boxes have a uid of their own, and must be able to read what is written for them."""


@contextmanager
def settled(tournament: Tournament, boxes: int) -> Iterator[int]:
    """Give this process the limits, signals and umask that runs need; yields the user's umask.

    Raises:
        SandboxUnavailable: All limits that are too low and may not be raised.
    """
    fit_for_boxes(boxes, tournament.limits.for_images(1))
    users = os.umask(UMASK)
    try:
        yield users
    finally:
        os.umask(users)


def make_run_folder(run: Path, umask: int) -> None:
    """Make the folder of a run as open as the user's umask says; what is in it is not more so."""
    if not run.exists():
        run.parent.mkdir(parents=True, exist_ok=True)
        run.mkdir()
        run.chmod(0o777 & ~umask)
