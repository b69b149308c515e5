"""The tournament file: its tables, their defaults, and what makes two of them the same contest."""

import os
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    SerializationInfo,
    StringConstraints,
    ValidationInfo,
    field_serializer,
    field_validator,
)

from advcomp import plugins
from advcomp.errors import InvalidConfig
from advcomp.rules.submission import NAME_RULE
from advcomp.rules.threat import Schedule, schedule_pairs
from advcomp.rules.toml_fields import (
    Name,
    beside_the_file,
    folder_of_the_file,
    one_of,
    some_and_each_once,
)
from advcomp.rules.toml_file import Table, dotted, problem, read_toml, shown_value, where
from advcomp.sandbox.base import Limits
from advcomp.sandbox.limits.gpus import Gpus
from advcomp.scoring.audit.finding import AuditCheck
from advcomp.scoring.opponents import Opponents
from advcomp.scoring.scores import Absence
from advcomp.tournament.amounts import parse_size, size_of_at_least
from advcomp.tournament.job.defense_views import DefenseView

LEAST_MEMORY = 32 << 20
"""Bytes that the smallest program, and Python's interpreter alone, run in whatever the sandbox.

Measured: 4 MB under bubblewrap, 12 MB under Docker and Podman, 24 MiB under gVisor, whose own
kernel counts; with less Docker and gVisor do not start it, the others kill it, or let it crawl.
"""
LEAST_CPUS = 0.01
"""What Linux gives a group at least: 1 ms of 100 ms (cpu.max, cpu.cfs_quota_us)."""
LEAST_START_S = 0.1
"""Seconds; the smallest program takes up to 0.04 under bubblewrap, 0.11 under gVisor."""
LEAST_OUTPUT = 4096
"""Bytes; a file takes a page of the folder, however short it is."""
MOST_PIDS = 4_000_000
"""A machine has 4,194,304 (PID_MAX_LIMIT), and Linux takes no higher limit."""

TABLE = "a table"
SIZES = 'a size such as "4 GiB" or "500 MB", or a number of bytes, at least'
SIZE_RULE = f"{SIZES} 1"
MEMORY_RULE = f"{SIZES} 32 MiB: no program starts in less"
TEAM_RULE = "a team's name of 1 to 64 characters"
DISPLAY_RULE = "what the public is shown in place of the name, 1 to 64 characters on one line"
URL_RULE = "an address of a page that begins with https:// or http://"
IMAGE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:/@-]*$"
IMAGE_RULE = 'names of container images such as "debian:12"'
ENTRY_RULE = (
    "the path of a folder or archive, a glob,"
    " or a table { path, name, team, baseline, held_out, randomised, display, url,"
    " files = { inside = outside } }"
)


class DatasetSource(StrEnum):
    """Where a tournament's images come from."""

    DIGITS = "digits"
    FOLDER = "folder"


class Backend(StrEnum):
    """Which sandbox runs the submissions; `auto` is bubblewrap."""

    BUBBLEWRAP = "bubblewrap"
    DOCKER = "docker"
    PODMAN = "podman"
    GVISOR = "gvisor"
    AUTO = "auto"


class LogPolicy(StrEnum):
    """What competitors see of their logs."""

    SMOKE = "smoke"
    TAIL = "tail"
    FULL = "full"


def _item_table(value: object) -> object:
    """An entry that is written as a string is a path without options."""
    return {"path": value} if isinstance(value, str) else value


def _inside_the_entry(inside: str) -> str:
    """Refuses a key of `files` that leads out of the entry, or that can be written shorter."""
    path = PurePosixPath(inside)
    if str(path) != inside or path.is_absolute() or ".." in path.parts or not path.name:
        raise problem(
            f"expected the path of a file relative to the entry, and inside it,"
            f' such as "model/weights.safetensors"; got {shown_value(inside)}'
        )
    return inside


def _no_file_is_a_folder(files: dict[str, str]) -> dict[str, str]:
    """Refuses a key of `files` that would be the folder of another."""
    for inside in files:
        for folder in map(str, PurePosixPath(inside).parents):
            if folder in files:
                raise problem(f'"{folder}" cannot be a file and the folder of "{inside}"')
    return files


TeamName = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Text = Annotated[str, StringConstraints(min_length=1)]
Display = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]{1,64}$")]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s<>\"'\\]{1,500}$")]
Files = Annotated[
    dict[Annotated[str, AfterValidator(_inside_the_entry)], Text],
    AfterValidator(_no_file_is_a_folder),
]
ImageName = Annotated[str, StringConstraints(pattern=IMAGE_PATTERN)]
Size = Annotated[int, BeforeValidator(parse_size)]
Memory = Annotated[int, BeforeValidator(size_of_at_least(LEAST_MEMORY))]
OutputSize = Annotated[int, BeforeValidator(size_of_at_least(LEAST_OUTPUT))]


class DatasetTable(Table):
    """[dataset]: the images that every entry meets. Paths are absolute."""

    source: DatasetSource = Field(strict=False, description=one_of(DatasetSource))
    images: int | None = Field(
        default=None, ge=1, description="an integer, at least 1 (left out: all images)"
    )
    seed: int = Field(default=0, ge=0, description="an integer, at least 0")
    images_dir: Path | None = Field(
        default=None, validate_default=True, description="the path of the folder of images"
    )
    csv: Path | None = Field(
        default=None, validate_default=True, description="the path of the CSV of labels"
    )

    @field_validator("images_dir", "csv", mode="plain")
    @classmethod
    def _only_with_folder(cls, value: object, info: ValidationInfo) -> Path | None:
        source = info.data.get("source")  # None where it is itself wrong
        if value is None:
            if source is DatasetSource.FOLDER:
                raise problem('missing; source = "folder" needs it')
            return None
        if source is DatasetSource.DIGITS:
            raise problem('goes only with source = "folder": take it out, or change the source')
        if not isinstance(value, str) or not value:
            raise ValueError("not a path")
        return beside_the_file(value, info)

    @field_serializer("images_dir", "csv")
    def _as_seen_from_the_file(self, path: Path | None, info: SerializationInfo) -> str | None:
        return None if path is None else os.path.relpath(path, folder_of_the_file(info))


class ThreatTable(Table):
    """[threat]: the budgets, in pixel levels, and which image meets which."""

    max_epsilons: Annotated[
        tuple[Annotated[int, Field(ge=0, le=255)], ...], AfterValidator(some_and_each_once)
    ] = Field(
        default=(4, 8, 12, 16),
        strict=False,
        description="one or more pixel levels, integers 0 to 255, each once",
    )
    schedule: Schedule = Field(default=Schedule.GRID, strict=False, description=one_of(Schedule))


class EntryItem(Table):
    """One item of [entries], as written: what it matches is found out by `entries.py`."""

    path: Text = Field(description="the path of a folder or archive, or a glob")
    name: Name | None = Field(default=None, description=NAME_RULE)
    team: TeamName | None = Field(default=None, description=TEAM_RULE)
    baseline: bool = Field(default=False, description="true or false")
    randomised: bool = Field(default=False, description="true or false")
    held_out: bool = Field(default=False, description="true or false")
    display: Display | None = Field(default=None, description=DISPLAY_RULE)
    url: Url | None = Field(default=None, description=URL_RULE)
    files: Files = Field(
        default_factory=dict, description="a table of paths: inside the entry = on this machine"
    )


EntryItems = tuple[Annotated[EntryItem, BeforeValidator(_item_table)], ...]


class EntriesTable(Table):
    """[entries]: who takes part."""

    attacks: EntryItems = Field(
        default=(), strict=False, description=f"a list; each item {ENTRY_RULE}"
    )
    defenses: EntryItems = Field(
        default=(), strict=False, description=f"a list; each item {ENTRY_RULE}"
    )


def _backend(name: object) -> Backend | str:
    """A sandbox of ours, or one that another package adds."""
    if isinstance(name, str):
        if name in [*Backend]:
            return Backend(name)
        if name in plugins.names(plugins.ExtensionGroup.SANDBOXES):
            return name
    raise ValueError("unknown")


class SandboxTable(Table):
    """[sandbox]: the box that submissions run in, and the container images it may use."""

    backend: Annotated[Backend | str, BeforeValidator(_backend)] = Field(
        default=Backend.AUTO, description=one_of(Backend)
    )
    images: tuple[ImageName, ...] = Field(
        default=(), strict=False, description=f"a list of {IMAGE_RULE}"
    )
    image_map: dict[str, ImageName] = Field(
        default_factory=dict,
        description=f"a table: image that an entry names = image to use, both {IMAGE_RULE}",
    )


class LimitsTable(Table):
    """[limits]: what one run of a submission may use."""

    start_seconds: float = Field(
        default=60.0,
        ge=LEAST_START_S,
        description=f"seconds, at least {LEAST_START_S}: no program starts in less",
    )
    seconds_per_100_images: float = Field(default=500.0, gt=0, description="seconds, more than 0")
    memory: Memory = Field(default=4 << 30, description=MEMORY_RULE)
    cpus: float = Field(
        default=1.0,
        ge=LEAST_CPUS,
        description=f"a number of processors, at least {LEAST_CPUS}, the least that Linux gives",
    )
    gpus: int = Field(default=0, ge=0, description="an integer, at least 0")
    pids: int = Field(
        default=512, ge=1, le=MOST_PIDS, description=f"an integer, 1 to {MOST_PIDS:,}"
    )
    output: OutputSize = Field(
        default=4 << 30,
        description=f"{SIZES} {LEAST_OUTPUT:,}: no file fits into less",
    )
    log: Size = Field(default=1 << 20, description=SIZE_RULE)

    def for_images(self, images: int) -> Limits:
        """The limits of one run over `images` images."""
        return Limits(
            wall_s=self.start_seconds + self.seconds_per_100_images * images / 100,
            memory_bytes=self.memory,
            cpus=self.cpus,
            gpus=self.gpus,
            pids=self.pids,
            output_bytes=self.output,
            log_bytes=self.log,
        )


class DefenseTable(Table):
    """[defense]: what one run of a defense sees."""

    view: DefenseView = Field(
        default=DefenseView.LATIN, strict=False, description=one_of(DefenseView)
    )


class ScoringTable(Table):
    """[scoring]: what absence means, how opponents weigh, how many resamples intervals take."""

    absence: Absence = Field(default=Absence.PAPER, strict=False, description=one_of(Absence))
    opponents: Opponents = Field(
        default=Opponents.TEAMS, strict=False, description=one_of(Opponents)
    )
    bootstrap: int = Field(
        default=1000, ge=1, le=1_000_000, description="an integer, 1 to 1,000,000"
    )


class AuditTable(Table):
    """[audit]: what an audit may have left out of the scores; nothing unless it says so."""

    refuse: tuple[Annotated[AuditCheck, Field(strict=False)], ...] = Field(
        default=(), strict=False, description=f"a list; each item {one_of(AuditCheck)}"
    )


class LogsTable(Table):
    """[logs]: what competitors see of their logs."""

    show: LogPolicy = Field(default=LogPolicy.SMOKE, strict=False, description=one_of(LogPolicy))


class ReportTable(Table):
    """[report]: what people are shown; nothing is scored by it."""

    class_names: Path | None = Field(
        default=None, description="the path of a CSV of lines label,name such as 2,goldfish"
    )

    @field_validator("class_names", mode="plain")
    @classmethod
    def _beside_the_file(cls, value: object, info: ValidationInfo) -> Path | None:
        if value is None or (isinstance(value, str) and value):
            return None if value is None else beside_the_file(value, info)
        raise ValueError("not a path")


class Tournament(Table):
    """A whole tournament file, checked; every path in it is absolute."""

    name: Name = Field(description=NAME_RULE)
    dataset: DatasetTable = Field(description="the table [dataset] with its source")
    threat: ThreatTable = Field(default=ThreatTable(), description=TABLE)
    entries: EntriesTable = Field(default=EntriesTable(), description=TABLE)
    sandbox: SandboxTable = Field(default=SandboxTable(), description=TABLE)
    limits: LimitsTable = Field(default=LimitsTable(), description=TABLE)
    defense: DefenseTable = Field(default=DefenseTable(), description=TABLE)
    scoring: ScoringTable = Field(default=ScoringTable(), description=TABLE)
    logs: LogsTable = Field(default=LogsTable(), description=TABLE)
    audit: AuditTable = Field(default=AuditTable(), description=TABLE)
    report: ReportTable = Field(default=ReportTable(), description=TABLE)
    _path: Path = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Remembers the file, which the validation was given as its context."""
        self._path = context

    @property
    def path(self) -> Path:
        """The file, absolute."""
        return self._path

    def identity(self, backend: str, dataset_digest: str) -> dict[str, object]:
        """What must be the same for a run to go on, by dotted key; plain JSON data.

        Paths are as seen from the tournament file, so that the two may move together.

        Args:
            backend: The sandbox that is really used, with `auto` and options decided.
            dataset_digest: Of the images and labels themselves, wherever they lie.
        """
        compared = {"dataset": self.dataset, "threat": self.threat, "defense": self.defense}
        tables = {
            name: table.model_dump(mode="json", context=self.path)
            for name, table in compared.items()
        }
        tables["dataset"]["digest"] = dataset_digest
        tables["sandbox"] = {"backend": backend}
        return {
            dotted((name, key)): value
            for name, table in tables.items()
            for key, value in table.items()
        }


def difference(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """One line for each key of two identities that differs; empty where they agree."""
    return [
        f"{key}: was {_given(old.get(key))}, is now {_given(new.get(key))}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]


def _given(value: object) -> str:
    return "left out" if value is None else shown_value(value)


def load_tournament(path: Path) -> Tournament:
    """Read and check a tournament file, without looking at what its paths lead to.

    Raises:
        InvalidConfig: All that is wrong with the file.
    """
    return read_toml(path, Tournament)


def check_room(tournament: Tournament, images: int, at_once: int) -> None:
    """Refuse a tournament whose output folders cannot hold what one run of an attack writes.

    Args:
        tournament: Whose [limits] say how large the folders are.
        images: How many its dataset has.
        at_once: How many a run gets, at most.

    Raises:
        InvalidConfig: They are too small, even for images of one page each.
    """
    threat = tournament.threat
    pairs = schedule_pairs(images, threat.max_epsilons, threat.schedule)
    written = min(at_once, max(Counter(pair.max_epsilon for pair in pairs).values()))
    if tournament.limits.output < (least := written * LEAST_OUTPUT):
        raise InvalidConfig(
            f"{where(tournament.path, ('limits', 'output'))}: expected at least {least:,} bytes:"
            f" an attack writes {written:,} images, and a file takes {LEAST_OUTPUT:,} bytes or"
            f" more; got {tournament.limits.output:,}"
        )


def check_machine(tournament: Tournament, cpus_available: int) -> None:
    """Refuse a tournament whose runs ask for more than they can get here.

    Raises:
        InvalidConfig: A run may use more processors than there are, or a GPU.
    """
    problems = []
    limits = tournament.limits
    if limits.cpus > cpus_available:
        problems.append(
            f"{where(tournament.path, ('limits', 'cpus'))}: expected at most the"
            f" {cpus_available} processors of this machine; got {limits.cpus:g}"
        )
    if limits.gpus > 0 and (obstacle := Gpus().obstacle(limits.gpus)):
        problems.append(
            f"{where(tournament.path, ('limits', 'gpus'))}: expected at most what this machine"
            f" can lend; got {limits.gpus}; {obstacle}"
        )
    if problems:
        raise InvalidConfig(*problems)
