"""Take an entry in: copy it, lay the tournament's files over it, read what it says it is.

Archives and metadata.json are parsed in a box; the referee reads only the boxes' answers. What
breaks the contract is REJECTED with all its problems, and never stops a run.
"""

import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from advcomp.errors import InvalidSubmission
from advcomp.rules.entry_point import start_notes
from advcomp.rules.folders import copy_folder, copy_outline, digest_folder
from advcomp.rules.image_archive import IMAGE_TAR
from advcomp.rules.metadata import FILE_NAME as METADATA_FILE
from advcomp.rules.metadata import MAX_ANSWER_BYTES
from advcomp.rules.metadata_answer import Metadata, read_metadata_answer
from advcomp.rules.sizes import MAX_PACKED_BYTES, unpacked_limit
from advcomp.rules.submission import heal, is_archive, lay_over
from advcomp.rules.submission_type import SubmissionType
from advcomp.sandbox.base import Limits, RunSpec, Sandbox
from advcomp.tournament.entry.boxed import SUBMISSION, receive_from_box
from advcomp.tournament.entry.containers import Container, ImageChooser
from advcomp.tournament.entry.entries import EntrySource, Role
from advcomp.tournament.entry.equal_files import EqualFiles
from advcomp.tournament.entry.known import KnownEntries
from advcomp.tournament.store.state import EntryState

UNPACK_PROGRAM = "advcomp.rules.unpack"
NO_CONTAINERS = "not used: this sandbox uses no images"
METADATA_LIMITS = Limits(wall_s=60, memory_bytes=1 << 30, pids=16, output_bytes=MAX_ANSWER_BYTES)


@dataclass(frozen=True, slots=True)
class _Taken:
    """A copy that keeps the contract.

    Args:
        digest: Of all of it, image.tar among it.
        container: What it runs in, where containers are used.
    """

    metadata: Metadata
    digest: str
    notes: tuple[str, ...]
    container: Container | None


class _Copies:
    """The copies of entries that are read at once: where some are equal, the first one stays.

    Args:
        folder: Where they stand, each under its digest.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._whole: set[str] = set()
        self._putting = threading.Lock()

    def keep(self, digest: str) -> None:
        """Replace this copy no more: it is whole."""
        with self._putting:
            self._whole.add(digest)

    def put(self, digest: str, fresh: Path) -> None:
        """Give a fresh copy its place."""
        with self._putting:
            if digest not in self._whole:
                _replace(self.folder / digest, fresh)
                self._whole.add(digest)


def take_entries(
    sources: Sequence[EntrySource],
    sandbox: Sandbox,
    entries: Path,
    containers: ImageChooser | None,
    *,
    known: Path,
    taken: Callable[[str], None] = lambda name: None,
    boxes: int = 1,
) -> tuple[EntryState, ...]:
    """Take every entry into the folder `entries`, each under its digest, equal files once.

    Args:
        known: The file in which the run remembers those that need not be read again.
        taken: Told the name of every entry that has been read.
        boxes: How many are read at once.
    """
    entries.mkdir(parents=True, exist_ok=True)
    for partial in entries.glob(".*"):
        shutil.rmtree(partial)
    equal = EqualFiles(entries)
    states = []
    memory, copies = KnownEntries(known, entries, sandbox.name), _Copies(entries)

    def read(source: EntrySource) -> EntryState:
        state = memory.find(source) if containers is None else None
        if state is not None:
            copies.keep(state.digest)
            return state
        seen = memory.look(source)
        state = _take_entry(source, sandbox, copies, containers)
        memory.remember(source, seen, state)
        return state

    # An engine is asked for one image at a time.
    with ThreadPoolExecutor(boxes if containers is None else 1, "intake") as pool:
        for source, state in zip(sources, pool.map(read, sources), strict=True):
            states.append(state)
            taken(source.name)
            if state.digest:
                copy = entries / state.digest
                for path in filter(None, (copy, image_beside(copy))):
                    equal.join(path)
    memory.save()
    return tuple(states)


def take_entry(
    source: EntrySource, sandbox: Sandbox, entries: Path, containers: ImageChooser | None
) -> EntryState:
    """Copy one entry to `entries/<digest>`; one that breaks the contract comes back rejected.

    An image that it delivers stands beside the copy (`image_beside`), for it is no file of /code.

    Args:
        containers: Chooses its image; None where the sandbox uses none.
    """
    return _take_entry(source, sandbox, _Copies(entries), containers)


def _take_entry(
    source: EntrySource, sandbox: Sandbox, copies: _Copies, containers: ImageChooser | None
) -> EntryState:
    partial = Path(tempfile.mkdtemp(prefix=".", dir=copies.folder))
    try:
        taken = _take(source, sandbox, partial / "copy", containers)
        copies.put(taken.digest, partial / "copy")
    except InvalidSubmission as error:
        is_defense = source.role is Role.DEFENSE
        return EntryState(
            name=source.name,
            type=source.kind or (SubmissionType.DEFENSE if is_defense else SubmissionType.ATTACK),
            source=str(source.path),
            team=source.team,
            baseline=source.baseline,
            randomised=source.randomised,
            display=source.display,
            url=source.url,
            rejected=True,
            notes=error.problems,
        )
    finally:
        shutil.rmtree(partial)
    return EntryState(
        name=source.name,
        type=taken.metadata.type,
        source=str(source.path),
        team=source.team,
        baseline=source.baseline,
        randomised=source.randomised,
        display=source.display,
        url=source.url,
        digest=taken.digest,
        entry_point=taken.metadata.entry_point,
        container=None if taken.container is None else taken.container.name,
        image=None if taken.container is None else taken.container.image,
        notes=taken.notes,
    )


def image_beside(copy: Path) -> Path | None:
    """The image that an entry delivered, given its copy; None where it delivered none."""
    image = copy.with_name(f"{copy.name}.{IMAGE_TAR}")
    return image if image.exists() else None


def _replace(copy: Path, fresh: Path) -> None:
    """Put a fresh copy where an older one may stand: a crash can have left that one torn."""
    if copy.exists():
        shutil.rmtree(copy)
    fresh.rename(copy)
    if (delivered := fresh.with_name(IMAGE_TAR)).exists():
        delivered.rename(copy.with_name(f"{copy.name}.{IMAGE_TAR}"))


def _take(
    source: EntrySource, sandbox: Sandbox, copy: Path, containers: ImageChooser | None
) -> _Taken:
    if is_archive(source.path):
        if source.path.stat().st_size > MAX_PACKED_BYTES:
            raise InvalidSubmission(
                f"{source.path}: expected at most {MAX_PACKED_BYTES >> 30} GiB packed; "
                f"got {source.path.stat().st_size:,} bytes"
            )
        packed = copy.with_name("packed")
        shutil.copyfile(source.path, packed)
        packed.chmod(0o644)  # the box has a uid of its own
        _unpack(source, packed, sandbox, copy)
    else:
        _copy(source, sandbox, copy)
    if source.digest is not None and digest_folder(copy) != source.digest:
        raise InvalidSubmission(
            f"{source.path}: is not what was submitted; its digest is {digest_folder(copy)}, "
            f"expected {source.digest}; submit it again"
        )
    lay_over(copy, source.files)
    metadata, notes = _read_metadata(source, sandbox, copy)
    _check_role(source, metadata)
    healed = (*heal(copy, metadata.entry_point), *start_notes(copy, metadata.entry_point))
    digest = digest_folder(copy)
    delivered = _set_aside(copy / IMAGE_TAR, copy.with_name(IMAGE_TAR))
    if containers is None:
        unused = () if delivered is None else (f"{source.name}/{IMAGE_TAR}: {NO_CONTAINERS}",)
        return _Taken(metadata, digest, (*notes, *healed, *unused), None)
    container = containers.choose(source.name, metadata, delivered, copy.parent)
    return _Taken(metadata, digest, (*notes, *healed, *container.notes), container)


def _set_aside(image: Path, aside: Path) -> Path | None:
    """Take an image out of the copy: no run has use for it in its /code."""
    return image.rename(aside) if image.is_file() else None


def _copy(source: EntrySource, sandbox: Sandbox, copy: Path) -> None:
    """Copy a folder; where that is refused, tell what is wrong with its metadata as well."""
    try:
        copy_folder(source.path, copy, name=source.name)
    except InvalidSubmission as refused:
        more = _metadata_problems(source, sandbox, copy)
        raise InvalidSubmission(*refused.problems, *more) from refused


def _metadata_problems(source: EntrySource, sandbox: Sandbox, copy: Path) -> tuple[str, ...]:
    try:
        copy_outline(source.path, copy, whole=METADATA_FILE)
        lay_over(copy, source.files)
        _check_role(source, _read_metadata(source, sandbox, copy)[0])
    except InvalidSubmission as error:
        return error.problems
    return ()


def _unpack(source: EntrySource, packed: Path, sandbox: Sandbox, copy: Path) -> None:
    """Unpack an archive in a box, which streams its content to us."""
    receive_from_box(
        UNPACK_PROGRAM,
        packed,
        copy,
        name=source.name,
        sandbox=sandbox,
        max_bytes=unpacked_limit(packed.stat().st_size),
    )


def _read_metadata(
    source: EntrySource, sandbox: Sandbox, copy: Path
) -> tuple[Metadata, tuple[str, ...]]:
    reading, writing = os.pipe()  # holds 64 KiB, which is all that is taken
    spec = RunSpec(
        argv=("python3", "-m", "advcomp.rules.metadata", SUBMISSION),
        limits=METADATA_LIMITS,
        inputs={SUBMISSION: copy},
        stdout_fd=writing,
    )
    with os.fdopen(reading, "rb") as stream:
        with os.fdopen(writing, "wb"), sandbox.run(spec):
            pass
        return read_metadata_answer(stream.read(), source.name)


def _check_role(source: EntrySource, metadata: Metadata) -> None:
    is_defense = metadata.type is SubmissionType.DEFENSE
    if source.role is not None and is_defense != (source.role is Role.DEFENSE):
        raise InvalidSubmission(
            f'{source.name}/metadata.json: "type" is {metadata.type}, but it is entered as '
            f"{source.role}; correct one of them"
        )
