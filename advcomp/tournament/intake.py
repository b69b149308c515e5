"""Take an entry in: copy it, lay the tournament's files over it, read what it says it is.

Archives and metadata.json are parsed in a box; the referee reads only the boxes' answers. What
breaks the contract is REJECTED with all its problems, and never stops a run.
"""

import os
import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from advcomp.errors import InvalidSubmission, SandboxError
from advcomp.rules.metadata import Metadata, read_metadata_answer
from advcomp.rules.submission import (
    MAX_UNPACKED_BYTES,
    copy_folder,
    digest_folder,
    heal,
    lay_over,
    receive,
)
from advcomp.rules.submission_type import SubmissionType
from advcomp.sandbox.base import Limits, RunSpec, Sandbox
from advcomp.tournament.entries import EntrySource, Role
from advcomp.tournament.state import EntryState

READ_LIMITS = Limits(wall_s=600, memory_bytes=1 << 30, output_bytes=1 << 20, pids=16)
ANSWER = 1 << 16


def take_entries(
    sources: Sequence[EntrySource], sandbox: Sandbox, entries: Path
) -> tuple[EntryState, ...]:
    """Take every entry into the folder `entries`, each under its digest."""
    entries.mkdir(parents=True, exist_ok=True)
    for partial in entries.glob(".*"):
        shutil.rmtree(partial)
    return tuple(take_entry(source, sandbox, entries) for source in sources)


def take_entry(source: EntrySource, sandbox: Sandbox, entries: Path) -> EntryState:
    """Copy one entry to `entries/<digest>`; one that breaks the contract comes back rejected."""
    partial = Path(tempfile.mkdtemp(prefix=".", dir=entries))
    try:
        copy = partial / "copy"
        metadata = _copy(source, sandbox, copy)
        digest = digest_folder(copy)
        _check_digest(source, digest)
        if not (entries / digest).exists():
            copy.rename(entries / digest)
    except InvalidSubmission as error:
        return EntryState(
            name=source.name,
            type=_type_by_role(source.role),
            source=str(source.path),
            team=source.team,
            baseline=source.baseline,
            rejected=True,
            notes=error.problems,
        )
    finally:
        shutil.rmtree(partial)
    return EntryState(
        name=source.name,
        type=metadata.type,
        source=str(source.path),
        team=source.team,
        baseline=source.baseline,
        digest=digest,
        entry_point=metadata.entry_point,
        notes=metadata.notes,
    )
