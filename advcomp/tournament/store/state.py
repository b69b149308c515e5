"""What a run folder says about its run: everything but the jobs' results.

`run.json` is written before the first job and again whenever the tournament file brings something
new; with the stored results it is enough to rebuild every table without running anything.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, JsonValue

from advcomp import __version__
from advcomp.errors import RunConflict
from advcomp.rules.class_names import read_class_names
from advcomp.rules.dataset import Dataset
from advcomp.rules.durable import write_durably
from advcomp.rules.lock import no_run
from advcomp.rules.plain_file import read_plain_file
from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.threat import Pair, Schedule, schedule_pairs
from advcomp.sandbox.base import LimitTier, Sandbox
from advcomp.sandbox.cache.steady import CacheState
from advcomp.scoring.standings import ScoringOptions
from advcomp.tournament.config import (
    AuditTable,
    LimitsTable,
    LogsTable,
    ScoringTable,
    Tournament,
)
from advcomp.tournament.job.defense_views import DefenseView
from advcomp.tournament.machine import machine_facts
from advcomp.tournament.store.sealed import fault_of, seal, unseal

FILE_NAME = "run.json"
KEY_FILE, ENTRIES, RESULTS = "key", "entries", "results"
INSECURE = "insecure_network"
"""Among the machine facts: what was sent to nodes could be read and changed on the way."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))


class EntryState(_Frozen):
    """An entry as it was taken: its copy is `entries/<digest>` in the run folder.

    Args:
        source: Where it was taken from; for the organiser's eyes.
        container, image: What it runs in, where containers are used: the image's name in the
            tournament file (or image.tar), and its ID.
        randomised: Its answers are drawn at random, says the organiser: an audit compares rates.
        display, url: What the public is shown in place of the name; where its paper or code is.
        played_as: The name that its results are kept under, where it was renamed since.
        rejected: It breaks the contract (`notes` say how); it has no copy and no digest. Or it is
            `refused`.
        refused: It is left out of the scores, since the audit flagged it; never so in run.json.
    """

    name: str
    type: SubmissionType
    source: str
    team: str | None = None
    baseline: bool = False
    randomised: bool = False
    display: str | None = None
    url: str | None = None
    digest: str = ""
    played_as: str | None = None
    entry_point: str = ""
    container: str | None = None
    image: str | None = None
    rejected: bool = False
    refused: bool = False
    notes: tuple[str, ...] = ()

    @property
    def is_attack(self) -> bool:
        """Whether it plays against the defenses."""
        return self.type is not SubmissionType.DEFENSE

    @property
    def first_name(self) -> str:
        """The name that its results are kept under."""
        return self.played_as or self.name


class DatasetState(_Frozen):
    """The dataset as the scores need it; its pixels stay where they are."""

    images_dir: str
    digest: str
    height: int
    width: int
    image_ids: tuple[str, ...]
    labels: tuple[int, ...]
    target_classes: tuple[int, ...] | None

    @classmethod
    def of(cls, dataset: Dataset) -> Self:
        """What is kept of a checked dataset."""
        targets = dataset.target_classes
        return cls(
            images_dir=str(dataset.folder),
            digest=dataset.digest,
            height=dataset.height,
            width=dataset.width,
            image_ids=dataset.image_ids,
            labels=tuple(dataset.labels.tolist()),
            target_classes=None if targets is None else tuple(targets.tolist()),
        )


class SandboxState(_Frozen):
    """Which sandbox the results come from."""

    name: str
    limit_tier: LimitTier
    versions: dict[str, str]

    @classmethod
    def of(cls, sandbox: Sandbox) -> Self:
        """What is kept of a sandbox that is ready."""
        return cls(
            name=sandbox.name, limit_tier=sandbox.limit_tier, versions=dict(sandbox.versions)
        )


class RunState(_Frozen):
    """A whole run but its results. `identity` is what must not change in a run folder.

    Args:
        images: Name in the tournament file -> ID of the image that it has meant from the start.
        page_cache: How far the page cache was kept in one state while jobs ran, each once.
        class_names: Label -> what it is, for people.
        first_names: Digest -> the names that results of what it is of are kept under.
        began: The day of the first start, in UTC, as 2026-01-31.
    """

    format: Literal[1] = 1
    name: str
    file: str
    identity: dict[str, JsonValue]
    dataset: DatasetState
    max_epsilons: tuple[int, ...]
    schedule: Schedule
    view: DefenseView
    entries: tuple[EntryState, ...]
    images: dict[str, str] = {}
    limits: LimitsTable
    sandbox: SandboxState
    scoring: ScoringTable
    logs: LogsTable
    audit: AuditTable = AuditTable()
    seed: int
    key_digest: str
    advcomp_version: str
    machine: dict[str, str | int]
    page_cache: tuple[CacheState, ...] = ()
    class_names: dict[int, str] = {}
    first_names: dict[str, tuple[str, ...]] = {}
    began: str = ""

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Every (image, budget) pair, in the order of all arrays over pairs."""
        return schedule_pairs(len(self.dataset.image_ids), self.max_epsilons, self.schedule)

    @cached_property
    def pair_index(self) -> dict[tuple[int, int], int]:
        """(image, max_epsilon) -> index in `pairs`."""
        return {(pair.image, pair.max_epsilon): i for i, pair in enumerate(self.pairs)}

    @cached_property
    def images_by_budget(self) -> dict[int, tuple[int, ...]]:
        """max_epsilon -> the images that have this budget, if any has."""
        found: dict[int, list[int]] = {}
        for pair in self.pairs:
            found.setdefault(pair.max_epsilon, []).append(pair.image)
        return {max_epsilon: tuple(images) for max_epsilon, images in found.items()}

    def images_at(self, max_epsilon: int) -> tuple[int, ...]:
        """The images that have this budget."""
        return self.images_by_budget.get(max_epsilon, ())

    @property
    def official(self) -> bool:
        """Whether results may be called official: a sound view, walls, and limits that hold.

        Where there are no walls, limits are weak.
        """
        return (
            self.view is not DefenseView.POOLED and self.sandbox.limit_tier is not LimitTier.WEAK
        )

    @property
    def attacks(self) -> tuple[EntryState, ...]:
        """Non-targeted first, then targeted, each by name: the order of all tables."""
        return tuple(
            sorted(
                (entry for entry in self.entries if entry.is_attack),
                key=lambda entry: (entry.type is SubmissionType.TARGETED_ATTACK, entry.name),
            )
        )

    @property
    def defenses(self) -> tuple[EntryState, ...]:
        """By name."""
        return tuple(
            sorted((e for e in self.entries if not e.is_attack), key=lambda entry: entry.name)
        )

    @property
    def scoring_options(self) -> ScoringOptions:
        """What the tournament file chooses about scores."""
        return ScoringOptions(
            absence=self.scoring.absence,
            opponents=self.scoring.opponents,
            bootstrap=self.scoring.bootstrap,
            seed=self.seed,
        )

    def labels_array(self) -> NDArray[np.int16]:
        """True labels, int16 (N,)."""
        return np.array(self.dataset.labels, np.int16)

    def target_classes_array(self) -> NDArray[np.int16] | None:
        """Target classes, int16 (N,), or None."""
        targets = self.dataset.target_classes
        return None if targets is None else np.array(targets, np.int16)


def state_of(
    tournament: Tournament,
    dataset: Dataset,
    entries: Sequence[EntryState],
    sandbox: SandboxState,
    *,
    key_digest: str,
    images: Mapping[str, str] | None = None,
    page_cache: Sequence[CacheState] = (),
    first_names: Mapping[str, tuple[str, ...]] | None = None,
    began: str = "",
) -> RunState:
    """The state of a run that begins, or goes on, now and here.

    Raises:
        InvalidConfig: The file of the classes' names is wrong.
    """
    names = tournament.report.class_names
    return RunState.model_validate(
        {
            "name": tournament.name,
            "file": str(tournament.path),
            "identity": tournament.identity(sandbox.name, dataset.digest),
            "dataset": DatasetState.of(dataset),
            "max_epsilons": tournament.threat.max_epsilons,
            "schedule": tournament.threat.schedule,
            "view": tournament.defense.view,
            "entries": tuple(entries),
            "images": images or {},
            "limits": tournament.limits,
            "sandbox": sandbox,
            "scoring": tournament.scoring,
            "logs": tournament.logs,
            "audit": tournament.audit,
            "seed": tournament.dataset.seed,
            "key_digest": key_digest,
            "advcomp_version": __version__,
            "machine": machine_facts(),
            "page_cache": tuple(page_cache),
            "class_names": read_class_names(names) if names else {},
            "first_names": first_names or {},
            "began": began,
        }
    )


def save_state(run: Path, state: RunState) -> None:
    """Write `run.json`; a crash leaves the old one or the new one."""
    write_durably(run / FILE_NAME, seal(state.model_dump(mode="json")))


def load_state(run: Path) -> RunState:
    """Read `run.json`.

    Raises:
        RunConflict: The folder is not a run of this version of advcomp, or the file is damaged.
    """
    path = run / FILE_NAME
    try:
        return RunState.model_validate(unseal(read_plain_file(path)))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise no_run(run) from error
    except (OSError, ValueError) as error:
        raise RunConflict(
            f"{path}: expected the state of a run of this version; got {fault_of(error)}; "
            "move the folder away and run again"
        ) from error
