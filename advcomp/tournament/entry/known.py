"""Entries that are as they were when this run read them before: they are not read again.

An entry is known by what can be told without opening it: of its archive, or of every file and
folder below it, and of the files laid over it, the name, kind, size, inode and the times of the
last change, one of which (ctime) no program can set. What decides how it is read counts as well:
its name and role, the sandbox, and advcomp's own files. Whether the copy is whole is found out by
its digest. Nothing is remembered of an entry that is refused, that brings a container image, or
that changed a moment before it was read, since it could change again within one tick of the clock.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from advcomp.rules.durable import write_durably
from advcomp.rules.folders import digest_folder
from advcomp.rules.plain_file import read_plain_file
from advcomp.tournament.entry.entries import EntrySource
from advcomp.tournament.machine import package_digest
from advcomp.tournament.store.sealed import seal, unseal
from advcomp.tournament.store.state import EntryState

FILE_NAME = "entries.json"
SETTLED_S = 0.1
"""How long nothing of an entry may have changed before it was read."""

_STATES = TypeAdapter(dict[str, EntryState])


class Seen(NamedTuple):
    """What an entry is known by, and when anything of it changed last (Unix time)."""

    key: str
    changed: float


class KnownEntries:
    """What a run remembers of the entries that it has read.

    Args:
        file: Where it is kept; one that is missing or damaged holds nothing.
        entries: The folder of the copies.
        sandbox: The name of the sandbox that reads them.
    """

    def __init__(self, file: Path, entries: Path, sandbox: str) -> None:
        self._file, self._entries, self._sandbox = file, entries, sandbox
        self._before = _load(file)
        self._now: dict[str, EntryState] = {}

    def look(self, source: EntrySource) -> Seen | None:
        """What an entry is known by; None where it cannot be told."""
        facts: list[object] = [
            *(package_digest(), self._sandbox, source.name, str(source.path), source.role),
            *(source.kind, source.digest),
        ]
        changed = 0.0
        try:
            for name, path in _paths(source):
                found = os.lstat(path)
                changed = max(changed, found.st_ctime)
                facts += [name, found.st_mode, found.st_size, found.st_ino, found.st_dev]
                facts += [found.st_mtime_ns, found.st_ctime_ns]
        except OSError:
            return None  # whoever reads it says what is wrong
        return Seen(hashlib.sha256(json.dumps(facts).encode()).hexdigest(), changed)

    def find(self, source: EntrySource) -> EntryState | None:
        """The entry as it was read before, if it need not be read again."""
        seen = self.look(source)
        state = self._before.get(seen.key) if seen else None
        if seen is None or state is None or not self._is_whole(state.digest):
            return None
        names = ("team", "baseline", "randomised", "display", "url")
        told = {name: getattr(source, name) for name in names}
        self._now[seen.key] = state.model_copy(update=told)
        return self._now[seen.key]

    def remember(self, source: EntrySource, seen: Seen | None, state: EntryState) -> None:
        """Keep what was read, if it stayed the same meanwhile.

        Args:
            seen: What `look` said before it was read.
        """
        if seen is None or state.rejected or state.image is not None:
            return
        settled = self._clock_of_files() - seen.changed >= SETTLED_S
        if settled and self.look(source) == seen and self._is_whole(state.digest):
            self._now[seen.key] = state

    def save(self) -> None:
        """Write down what is known now."""
        states = {key: self._now[key].model_dump(mode="json") for key in sorted(self._now)}
        if self._now != self._before:
            write_durably(self._file, seal({"entries": states}))

    def _clock_of_files(self) -> float:
        """What a file that is made now says of its last change: the clock of what `look` reads."""
        with tempfile.TemporaryFile(dir=self._entries) as file:
            return os.fstat(file.fileno()).st_ctime

    def _is_whole(self, digest: str) -> bool:
        copy = self._entries / digest
        try:
            return copy.is_dir() and digest_folder(copy) == digest
        except FileNotFoundError:  # an equal entry, which is read at once, is replacing it
            return False


def _load(file: Path) -> Mapping[str, EntryState]:
    try:
        return _STATES.validate_python(unseal(read_plain_file(file))["entries"])
    except (OSError, ValueError, LookupError, ValidationError):
        return {}


def _paths(source: EntrySource) -> Iterator[tuple[str, Path]]:
    """Everything that an entry is read from, by a name; no link is followed but the first."""
    top = source.path.resolve()
    yield "", top
    for folder, folders, files in os.walk(top):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = Path(folder, name)
            yield str(path.relative_to(top)), path
    for inside, outside in sorted(source.files.items()):
        yield f"{inside} = {outside}", outside.resolve()
