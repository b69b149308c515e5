"""What a run will take: jobs, starts of sandboxes, time and disk, before anything runs.

It is assumed that every new entry is valid and writes every image, and that entries which the run
folder knows are unchanged, the rejected among them: only taking them in again could tell. An
attack that runs again is taken to write other images than before.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from advcomp.rules.dataset import Dataset
from advcomp.rules.submission import is_archive
from advcomp.rules.submission_type import SubmissionType
from advcomp.sandbox.base import LimitTier
from advcomp.scoring.processors import scarcity
from advcomp.tournament.cluster.extra import require_extra
from advcomp.tournament.config import Tournament, check_machine, load_tournament
from advcomp.tournament.entry.entries import EntrySource, Role, load_entries
from advcomp.tournament.job.plan import AttackJob, by_entry, images_of
from advcomp.tournament.machine import cores
from advcomp.tournament.opening import default_jobs, folder_of, refuse_another
from advcomp.tournament.outcome.around import around
from advcomp.tournament.outcome.outlook import Outlook
from advcomp.tournament.source import open_dataset
from advcomp.tournament.store.job_results import Store
from advcomp.tournament.store.state import (
    FILE_NAME,
    EntryState,
    RunState,
    SandboxState,
    load_state,
    state_of,
)

BLOCK_BYTES = 4096
"""What a small file takes on disk."""
FILES_PER_JOB = 4
"""A result's folder, its record, its log, its images or labels."""
RECORD_BYTES_PER_IMAGE = 256
"""An image's digest in a record, its place in an archive, its label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One entry's jobs.

    Args:
        stored: How many of them have a result; the other figures are of the rest.
        starts: Sandboxes to start: one for a job, and those that decode an attack's images.
        limit_s: What they may take, one after the other.
        expected_s: What they will take, one after the other, from the entry's earlier runs; None
            where there are none.
    """

    entry: str
    stage: str
    jobs: int
    stored: int
    starts: int
    images: int
    limit_s: float
    expected_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Bytes on disk, at most.

    Args:
        images: Adversarial images and labels that are to be stored.
        logs: What jobs may print.
        entries: Copies of the entries; archives as they are packed.
        temporary: Inputs of jobs while these run, in the folder for temporary files.
        free: What is free where the run folder is.
    """

    images: int
    logs: int
    entries: int
    temporary: int
    free: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a run will take.

    Args:
        known: Whether the run folder is there already.
        rejected: Entries that were REJECTED when they were taken last.
        workers: Sandboxes at once.
        intake: Sandboxes that read the entries.
        at_most_s: Wall time where every job takes all that it may.
        expected_s: Wall time from what was measured; None where an entry never ran.
        around_s: What comes on top while no job is at work; None where no run has shown it.
        notes: What globs left out.
        scarce: What is to be said where the runs so far got too little of a processor.
    """

    run: Path
    known: bool
    rejected: tuple[str, ...]
    rows: tuple[Row, ...]
    workers: int
    intake: int
    at_most_s: float
    expected_s: float | None
    around_s: float | None
    disk: Disk
    notes: tuple[str, ...]
    scarce: str | None = None


def forecast(
    file: Path, out: Path | None, workers: int | None, cluster: str | None = None
) -> Forecast:
    """Count what a run of a tournament file would do; runs no submission.

    Args:
        out: The run folder, as for a run.
        workers: Sandboxes at once, as for a run.
        cluster: A cluster file, as for a run: the nodes that it names take the jobs.

    Raises:
        InvalidConfig: The file, an entry's place or the cluster file is wrong.
        InvalidDataset: The dataset is wrong.
        RunConflict: The run folder is of another tournament.
    """
    tournament = load_tournament(file)
    workers = _workers(tournament, workers, cluster)
    listed = load_entries(tournament)
    dataset = open_dataset(tournament)
    run = folder_of(tournament, out)
    state = _state(tournament, dataset, listed.sources, run)
    outlook = Outlook(run, state, Store(run))
    aside = around(run)
    return Forecast(
        run=run,
        known=(run / FILE_NAME).exists(),
        rejected=tuple(entry.name for entry in state.entries if entry.rejected),
        rows=tuple(_rows(outlook)),
        workers=workers,
        intake=sum(2 if is_archive(source.path) else 1 for source in listed.sources),
        at_most_s=outlook.wall_s(outlook.limit_s, workers),
        expected_s=outlook.expected_wall_s(workers),
        around_s=None if aside is None else aside.of(len(outlook.missing)),
        disk=_disk(outlook, run, listed.sources, workers),
        notes=listed.notes,
        scarce=scarcity(outlook.stored, state.limits.cpus),
    )


def _workers(tournament: Tournament, workers: int | None, cluster: str | None) -> int:
    """Sandboxes at once: on the nodes of the cluster, or on this machine."""
    if cluster is None:
        check_machine(tournament, cores())
        return workers or default_jobs(tournament)
    require_extra()
    from advcomp.tournament.cluster.room import boxes_on

    boxes = boxes_on(cluster, tournament.limits.for_images(1))
    return boxes if workers is None else min(workers, boxes)


def _state(
    tournament: Tournament, dataset: Dataset, sources: Sequence[EntrySource], run: Path
) -> RunState:
    """The state that the run would have, its entries as they were when they were last taken."""
    box, taken, key = SandboxState(name="", limit_tier=LimitTier.WEAK, versions={}), {}, ""
    if (run / FILE_NAME).exists():
        old = load_state(run)
        refuse_another(run, tournament.identity(old.sandbox.name, dataset.digest))
        box, taken, key = old.sandbox, _taken(old.entries, sources), old.key_digest
    entries = [_entry(source, taken.get(source.name)) for source in sources]
    return state_of(tournament, dataset, entries, box, key_digest=key)


def _taken(old: Sequence[EntryState], sources: Sequence[EntrySource]) -> dict[str, EntryState]:
    """What the entries were by their names, or by where they lie where only the name is new."""
    taken = {entry.name: entry for entry in old}
    names = {source.name for source in sources}
    gone = [entry for entry in old if entry.name not in names]
    for source in (source for source in sources if source.name not in taken):
        found = next((entry for entry in gone if entry.source == str(source.path)), None)
        if found is not None:
            gone.remove(found)
            told = {"name": source.name, "played_as": found.first_name}
            taken[source.name] = found.model_copy(update=told)
    return taken


def _entry(source: EntrySource, taken: EntryState | None) -> EntryState:
    is_attack = source.role is Role.ATTACK
    if taken is not None and taken.is_attack == is_attack:
        return taken
    return EntryState(
        name=source.name,
        type=SubmissionType.ATTACK if is_attack else SubmissionType.DEFENSE,
        source=str(source.path),
    )


def _rows(outlook: Outlook) -> Iterator[Row]:
    """One for every entry, attacks first."""
    all_jobs, all_missing = by_entry(outlook.jobs), by_entry(outlook.missing)
    for entry in (*outlook.state.attacks, *outlook.state.defenses):
        jobs, missing = all_jobs.get(entry.name, ()), all_missing.get(entry.name, ())
        known = outlook.is_measured(entry) or not missing
        yield Row(
            entry=entry.name,
            stage="attack" if entry.is_attack else "defense",
            jobs=len(jobs),
            stored=len(jobs) - len(missing),
            starts=sum(map(outlook.starts, missing)),
            images=sum(map(images_of, missing)),
            limit_s=sum(map(outlook.limit_s, missing)),
            expected_s=sum(map(outlook.expected_s, missing)) if known else None,
        )


def _disk(outlook: Outlook, run: Path, sources: Sequence[EntrySource], workers: int) -> Disk:
    state = outlook.state
    pixels = state.dataset.height * (1 + 3 * state.dataset.width)
    png = pixels + pixels // 1000 + 128  # what noise comes to, which no compression helps
    attacked = sum(images_of(job) for job in outlook.missing if isinstance(job, AttackJob))
    images = sum(map(images_of, outlook.missing))
    files = FILES_PER_JOB * BLOCK_BYTES * len(outlook.missing)
    largest = sorted(map(images_of, outlook.missing), reverse=True)[:workers]
    existing = next(folder for folder in (run, *run.parents) if folder.exists())
    return Disk(
        images=attacked * png + images * RECORD_BYTES_PER_IMAGE + files,
        logs=state.limits.log * len(outlook.missing),
        entries=sum(_size_of(path) for source in sources for path in _files_of(source)),
        # An attack's output is staged again for the decoder.
        temporary=2 * sum(largest) * (png + BLOCK_BYTES),
        free=shutil.disk_usage(existing).free,
    )


def _files_of(source: EntrySource) -> Iterator[Path]:
    yield from source.files.values()
    if source.path.is_dir():
        yield from (
            Path(folder, name) for folder, _, names in os.walk(source.path) for name in names
        )
    else:
        yield source.path


def _size_of(path: Path) -> int:
    return path.lstat().st_size
