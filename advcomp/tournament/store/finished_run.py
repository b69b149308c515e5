"""What results were made from: where nothing of it has changed, nothing need be read again.

`finished.json` holds a digest over the run's state, its waves, its audit, and what the file system
says of every stored file (size, inode, times of change, which no program can set). No content is
read: a disk that changes bytes behind the file system's back is found out by `advcomp verify`.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from advcomp.rules.durable import write_durably
from advcomp.rules.plain_file import read_plain_file
from advcomp.tournament.audit.record import FILE_NAME as AUDIT
from advcomp.tournament.job.waves import FILE_NAME as WAVES
from advcomp.tournament.store.sealed import seal, unseal
from advcomp.tournament.store.state import RESULTS, RunState

FILE_NAME = "finished.json"
JOBS = "jobs"


def note_finished(run: Path, state: RunState, jobs: tuple[int, int]) -> None:
    """Keep that the results stand, and how many jobs of attacks and defenses they come from."""
    body = {"made_from": _digest(run, state), "attacks": jobs[0], "defenses": jobs[1]}
    write_durably(run / FILE_NAME, seal(body))


def found_finished(run: Path, state: RunState) -> tuple[int, int] | None:
    """The numbers of jobs, if the results would come out the same again; else None."""
    try:
        body = unseal(read_plain_file(run / FILE_NAME))
        if body["made_from"] != _digest(run, state):
            return None
        return int(body["attacks"]), int(body["defenses"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _digest(run: Path, state: RunState) -> str:
    digest = hashlib.sha256(state.model_dump_json().encode())
    for name in (WAVES, AUDIT):
        path = run / name
        digest.update(read_plain_file(path) if path.exists() else b"none")
    for folder in (RESULTS, JOBS):
        for line in sorted(_listing(run / folder, "")):
            digest.update(line.encode())
    return digest.hexdigest()


def _listing(folder: Path | str, name: str) -> Iterator[str]:
    """A line for each file below."""
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f"{name}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from _listing(entry.path, path)
                continue
            told = entry.stat(follow_symlinks=False)
            yield f"{path} {told.st_size} {told.st_ino} {told.st_mtime_ns} {told.st_ctime_ns}\0"
