"""One process at a time works on a run, of a tournament or of a training."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from advcomp.errors import RunConflict


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the run folder for this process alone.

    Raises:
        RunConflict: Another process holds it.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / "lock").open("w") as file:
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
    with (folder / "turn").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
