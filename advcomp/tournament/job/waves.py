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
from advcomp.rules.threat import Schedule
from advcomp.tournament.job.defense_views import DefenseView
from advcomp.tournament.store.job_results import JobResult, Store
from advcomp.tournament.store.sealed import seal, unseal
from advcomp.tournament.store.state import RunState

FILE_NAME = "waves.json"


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
    """Where the images of a wave lie in the store.

    Args:
        exists: bool (M, N), which images there are.
    """

    def __init__(self, state: RunState, store: Store, wave: Wave) -> None:
        self._image_ids = state.dataset.image_ids
        self._store = store
        self._places: dict[tuple[int, int], tuple[str, str]] = {}
        for number, column in enumerate(wave.columns):
            for source in column.sources:
                self._place(number, source)
        self.exists: NDArray[np.bool_] = np.zeros(
            (len(wave.columns), len(self._image_ids)), np.bool_
        )
        for column_image in self._places:
            self.exists[column_image] = True

    def _place(self, column: int, source: ColumnSource) -> None:
        folder = self._store.find(source.job, source.outputs)
        result = None if folder is None else self._store.load(folder)
        if folder is None or result is None:
            return
        for image, digest in zip(source.images, result.png_digests, strict=True):
            if digest:
                self._places[column, image] = folder, digest

    def png_digest(self, column: int, image: int) -> str:
        """SHA-256 of an image's canonical PNG."""
        return self._places[column, image][1]

    def folder(self, column: int, image: int) -> str:
        """The folder in the store whose archive has an image."""
        return self._places[column, image][0]


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
        return _WAVES.validate_python(unseal(path.read_bytes())["waves"])
    except (OSError, ValueError) as error:
        raise RunConflict(
            f"{path}: expected the waves of a run of this version; got {error}; "
            "remove the file, and `advcomp run` plans them anew"
        ) from error
