"""One process at a time works on a run, of a tournament or of a training."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from advcomp.errors import RunConflict
from advcomp.rules.plain_file import write_plain_file


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the run folder for this process alone.

    Raises:
        RunConflict: Another process holds it.
    """
    run.mkdir(parents=True, exist_ok=True)
    with os.fdopen(write_plain_file(run / "lock"), "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunConflict(
                f"{run}: another advcomp process is working on this run; wait until it has "
                "finished, or choose another folder with --out"
            ) from error
        yield


@contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Wait until no other process has its turn in the folder, and keep them waiting meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    with os.fdopen(write_plain_file(folder / "turn"), "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
