"""Whether a run's folder still holds what was written: every byte, compared with its checksum."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from advcomp.rules.folders import digest_folder
from advcomp.tournament.job.waves import load_waves
from advcomp.tournament.store.job_results import Store, locked
from advcomp.tournament.store.state import ENTRIES, load_state


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was found.

    Args:
        results, copies: How many results of jobs, and copies of entries, were compared.
        damaged: Those that are not what was written; the next run makes the copies again.
    """

    results: int
    copies: int
    damaged: tuple[Path, ...]


def verify_run(run: Path, *, drop: bool) -> Verified:
    """Compare all files of a run with their checksums.

    Args:
        drop: Take out results that are damaged, so that the next run does those jobs again.

    Raises:
        RunConflict: The folder is no run, is in use, or its state or waves are damaged.
    """
    state = load_state(run)
    load_waves(run)
    with locked(run):
        store = Store(run)
        results = list(store.verify())
        damaged = [name for name, whole in results if not whole]
        for name in damaged if drop else ():
            store.drop(name)
        digests = sorted({entry.digest for entry in state.entries if entry.digest})
        return Verified(
            results=len(results),
            copies=len(digests),
            damaged=(*(run / "jobs" / name for name in damaged), *_changed(run, digests)),
        )


def _changed(run: Path, digests: list[str]) -> Iterator[Path]:
    """Copies of entries that are not what was taken."""
    for digest in digests:
        copy = run / ENTRIES / digest
        if not copy.is_dir() or digest_folder(copy) != digest:
            yield copy
