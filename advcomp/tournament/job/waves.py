"""Waves: which attacks' images are classified together.

A run plans shards over all attacks that have no labels yet: that is a wave. An attack that comes
later, or whose images changed, is a wave of its own, so that the labels of earlier waves stay
valid; a new defense meets every wave as it was planned. A column is known by what it holds (the
jobs it comes from and the digests of their images), never by a flag that could be out of date.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, TypeAdapter

from advcomp.errors import RunConflict
from advcomp.rules.durable import write_durably
from advcomp.rules.plain_file import read_plain_file
from advcomp.rules.threat import Schedule
from advcomp.tournament.job.defense_views import DefenseView, Shard
from advcomp.tournament.store.job_results import JobResult, Store
from advcomp.tournament.store.sealed import fault_of, seal, unseal
from advcomp.tournament.store.state import RunState

FILE_NAME = "waves.json"
DIGEST_BYTES = 32


class ColumnSource(BaseModel):
    """One job of an attack, its images and the digest of what it left."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: str
    outputs: str
    max_epsilon: int
    images: tuple[int, ...]


class Column(BaseModel):
    """The adversarial images of one attack, at one budget or (None) at each image's own.

    Args:
        attack: The name that the attack's results are kept under.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    attack: str
    max_epsilon: int | None
    sources: tuple[ColumnSource, ...]


class Wave(BaseModel):
    """Columns that are classified together."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    columns: tuple[Column, ...]

    @property
    def digest(self) -> str:
        """What the wave holds, as one value."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


_WAVES = TypeAdapter(tuple[Wave, ...])


class WaveImages:
    """Where the images of a wave lie in the store; arrays, since there are millions of them.

    Args:
        exists: bool (M, N), which images there are.
    """

    def __init__(self, state: RunState, store: Store, wave: Wave) -> None:
        self._store = store
        shape = len(wave.columns), len(state.dataset.image_ids)
        self.exists: NDArray[np.bool_] = np.zeros(shape, np.bool_)
        self._folders: list[str] = []
        self._folder_at = np.zeros(shape, np.int32)
        # One row more than there are columns: that of the clean images, which have no digest here.
        self._digests = np.zeros((shape[0] + 1, shape[1], DIGEST_BYTES), np.uint8)
        for number, column in enumerate(wave.columns):
            for source in column.sources:
                self._place(number, source)

    def _place(self, column: int, source: ColumnSource) -> None:
        folder = self._store.find(source.job, source.outputs)
        result = None if folder is None else self._store.load(folder)
        if folder is None or result is None:
            return
        told = result.png_digests
        there = np.array([bool(digest) for digest in told], np.bool_)
        images = np.array(source.images, np.intp)[there]
        raw = np.frombuffer(bytes.fromhex("".join(told)), np.uint8)
        self.exists[column, images] = True
        self._digests[column, images] = raw.reshape(len(images), DIGEST_BYTES)
        self._folder_at[column, images] = len(self._folders)
        self._folders.append(folder)

    def png_digest(self, column: int, image: int) -> str:
        """SHA-256 of an image's canonical PNG, hexadecimal."""
        return bytes(self._digests[column, image]).hex()

    def png_digests(self, shard: Shard) -> list[str]:
        """The same for each item of a shard; of a clean image it says nothing."""
        told = self._digests[shard.columns, shard.images].tobytes().hex()
        step = 2 * DIGEST_BYTES
        return [told[at : at + step] for at in range(0, len(told), step)]

    def folder(self, column: int, image: int) -> str:
        """The folder in the store whose archive has an image."""
        return self._folders[int(self._folder_at[column, image])]


def columns_of(
    state: RunState, attack: str, jobs: Sequence[tuple[ColumnSource, JobResult]]
) -> list[Column]:
    """The columns that an attack's results make; one without any image is left out."""
    together = state.schedule is Schedule.ROUND_ROBIN and state.view is DefenseView.LATIN
    groups: dict[int | None, list[ColumnSource]] = {}
    for source, result in jobs:
        if result.valid:
            groups.setdefault(None if together else source.max_epsilon, []).append(source)
    return [
        Column(attack=attack, max_epsilon=max_epsilon, sources=tuple(sources))
        for max_epsilon, sources in groups.items()
    ]


def plan_waves(old: Sequence[Wave], current: Sequence[Column]) -> tuple[Wave, ...]:
    """The old waves that still hold something, then one of all columns that are new."""
    wanted = set(current)
    kept = [wave for wave in old if wanted & set(wave.columns)]
    known = {column for wave in kept for column in wave.columns}
    new = tuple(column for column in current if column not in known)
    if new or not kept:
        kept.append(Wave(columns=new))
    return tuple(kept)


def save_waves(run: Path, waves: Sequence[Wave]) -> None:
    """Write `waves.json`; a crash leaves the old one or the new one."""
    content = seal({"waves": [wave.model_dump(mode="json") for wave in waves]})
    write_durably(run / FILE_NAME, content)


def load_waves(run: Path) -> tuple[Wave, ...]:
    """Read `waves.json`; none before the first wave was planned.

    Raises:
        RunConflict: The file is damaged, or of another version of advcomp.
    """
    path = run / FILE_NAME
    if not path.exists():
        return ()
    try:
        return _WAVES.validate_python(unseal(read_plain_file(path))["waves"])
    except (OSError, ValueError) as error:
        raise RunConflict(
            f"{path}: expected the waves of a run of this version; got {fault_of(error)}; "
            "remove the file, and `advcomp run` plans them anew"
        ) from error
