"""Copies of entries in a run's folder that the run does not use any more."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from advcomp.sandbox.doctor.garbage import Garbage, folder_garbage
from advcomp.tournament.entry.intake import image_beside
from advcomp.tournament.store.job_results import locked
from advcomp.tournament.store.state import ENTRIES, FILE_NAME, load_state

__all__ = ["old_copies", "runs_below"]


def runs_below(folder: Path) -> list[Path]:
    """Run folders in a folder, which may be one itself."""
    files = [folder / FILE_NAME, *sorted(folder.glob(f"*/{FILE_NAME}"))]
    return [file.parent for file in files if file.is_file()]


def old_copies(run: Path) -> Iterator[Garbage]:
    """Copies of submissions that were replaced, or half taken when a run was killed.

    Raises:
        RunConflict: The folder is no run, or is in use.
    """
    with locked(run):
        unused = _unused(run)
    for path in unused:
        garbage = folder_garbage("old copy of an entry", path)
        yield replace(garbage, remove=partial(_remove, run, garbage))


def _remove(run: Path, garbage: Garbage) -> None:
    """Remove a copy, unless a run has begun to use it meanwhile."""
    with locked(run):
        if Path(garbage.name) in _unused(run):
            garbage.remove()


def _unused(run: Path) -> list[Path]:
    copies = [run / ENTRIES / entry.digest for entry in load_state(run).entries if entry.digest]
    images = [image for copy in copies if (image := image_beside(copy)) is not None]
    folder = run / ENTRIES
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in found if path not in (*copies, *images)]
