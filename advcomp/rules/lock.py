"""One process at a time works on a run, of a tournament or of a training."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from advcomp.errors import RunConflict
from advcomp.rules.plain_file import open_plain_file, write_plain_file


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the run folder for this process alone; one that is read-only, too.

    Raises:
        RunConflict: Another process holds it, or there is no such folder.
    """
    if not run.is_dir():
        raise no_run(run)
    with _opened(run / "lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunConflict(
                f"{run}: another advcomp process is working on this run; wait until it has "
                "finished, or choose another folder with --out"
            ) from error
        yield


def no_run(run: Path) -> RunConflict:
    """What to raise where the folder of a run should be."""
    return RunConflict(
        f"{run}: expected the folder of a run (with run.json); got none; "
        "`advcomp run FILE` makes one"
    )


def _opened(lock: Path) -> BinaryIO:
    try:
        return os.fdopen(write_plain_file(lock), "wb")
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES) or not lock.exists():
            raise
        return open_plain_file(lock)  # what is only read need not be written to be held


@contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Wait until no other process has its turn in the folder, and keep them waiting meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    with os.fdopen(write_plain_file(folder / "turn"), "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
