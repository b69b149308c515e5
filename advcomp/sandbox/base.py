"""What every sandbox backend offers: run one program under limits, then hand over what it wrote.

A backend runs `RunSpec.argv` inside a box and returns a `Run`: how the program ended, and its
output folder, which is read only by descriptor and only after every process of the box is dead.
What a submission does is data (`RunResult`); only a failure of the box itself is an exception
(`SandboxError`). Nothing here judges: verdicts are the tournament's.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from advcomp.rules.image_config import InspectedImage
from advcomp.rules.verdict import Verdict

__all__ = [
    "UNWALLED",
    "BoxRun",
    "ContainerImages",
    "LimitTier",
    "Limits",
    "OutputFolder",
    "RunResult",
    "RunSpec",
    "Sandbox",
    "SharedTree",
    "Verdict",
]


UNWALLED = "none"
"""The sandbox that is none: for one's own entries only, chosen by name and with a promise."""


class LimitTier(StrEnum):
    """How strictly limits are kept; part of every result."""

    CGROUP_V2 = "cgroup-v2"
    CGROUP_V1 = "cgroup-v1"
    ENGINE = "engine"
    WEAK = "weak"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one run of a program may use.

    Args:
        wall_s: Seconds of wall time (monotonic clock), start-up included; then it is killed.
        memory_bytes: Memory of all its processes, tmpfs and page cache included; no swap.
        cpus: Processors; a fraction is allowed where cgroups are.
        gpus: GPUs leased for the run.
        pids: Processes and threads at once.
        output_bytes: Size of the output folder, and again of /tmp, and of what it adds to /code.
        log_bytes: How much of standard output and standard error is kept: half head, half tail.
    """

    wall_s: float
    memory_bytes: int
    cpus: float = 1
    gpus: int = 0
    pids: int = 512
    output_bytes: int = 4 << 30
    log_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One program to run in a box.

    Args:
        argv: The command, as seen inside; its folder is /code where there is one, else /tmp.
        limits: What it may use.
        code: Host folder that is copied, fresh and writable, to /code; never bound.
        inputs: Inside path -> host file or folder, bound read-only, e.g. "/input_images".
        output: Inside path of the output folder, e.g. "/output_images": writable, size-capped,
            empty at the start.
        stdout_fd: A descriptor that takes standard output whole (at most `limits.output_bytes`);
            without one it goes to the log together with standard error.
        image: Container image, where the backend uses images.
    """

    argv: tuple[str, ...]
    limits: Limits
    code: Path | None = None
    inputs: Mapping[str, Path] = field(default_factory=dict)
    output: str | None = None
    stdout_fd: int | None = None
    image: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a program ended. All of it was measured from outside the box.

    Args:
        exit_code: Its exit code; None where a signal ended it.
        signal: The signal that ended it, ours (timeout, memory) included; None where it exited.
        wall_s: Wall seconds from the start of the program to the death of its last process.
        max_rss_bytes: Peak memory of the box as the limit tier measures it; None where unknown.
        cpu_s: Seconds of processors that all its processes used; None where unknown.
        timed_out: It reached `Limits.wall_s` and was killed.
        oom_killed: At least one process was killed for memory.
        disk_full: /tmp or /code had no room left at the end.
        output_full: The output folder had no room left at the end, or `stdout_fd` got too much.
        log: Head and tail of what it printed, raw bytes: escape before showing it to anyone.
        log_dropped_bytes: How much of the log is not kept.
        notes: Observations for the organiser, in our own words.
    """

    exit_code: int | None
    signal: int | None
    wall_s: float
    max_rss_bytes: int | None
    cpu_s: float | None = None
    timed_out: bool = False
    oom_killed: bool = False
    disk_full: bool = False
    output_full: bool = False
    log: bytes = b""
    log_dropped_bytes: int = 0
    notes: tuple[str, ...] = ()


class OutputFolder(Protocol):
    """What a dead box left in its output folder."""

    def read(self, name: str, max_bytes: int) -> bytes | None:
        """The content of the regular file `name` (a plain file name, no folder).

        Never follows a link and never blocks. None where there is no such file, where it is
        anything but a regular file, or where it is larger than `max_bytes`.
        """
        ...

    def names(self, at_most: int) -> tuple[str, ...]:
        """Up to `at_most` names that stand in the folder, sorted, undecodable bytes escaped."""
        ...


class BoxRun(Protocol):
    """A finished run; closing it frees what the box held (its output is gone then)."""

    @property
    def result(self) -> RunResult: ...  # noqa: D102

    @property
    def output(self) -> OutputFolder: ...  # noqa: D102

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class ContainerImages(Protocol):
    """The container images that a sandbox can run programs in."""

    @property
    def engine(self) -> str:
        """The name of the engine that holds them."""
        ...

    def find(self, name: str) -> InspectedImage | None:
        """The image that a name or an ID means here and now; None where there is none.

        Raises:
            SandboxError: The engine does not answer, or its answer is not understood.
        """
        ...

    def pull(self, name: str) -> InspectedImage:
        """Fetch an image from its registry.

        Raises:
            SandboxError: It cannot be fetched.
        """
        ...

    def load(self, parts: Path) -> InspectedImage:
        """Give the engine an image that it may not have yet; afterwards `parts` is empty.

        Raises:
            InvalidSubmission: The engine refuses it.
            SandboxError: The engine does not answer.
            OSError: Its disk is full.
        """
        ...

    def empty(self) -> InspectedImage:
        """An image without any file, which is given to the engine where it is not there.

        Raises:
            AdvcompError: The engine does not answer, or refuses it.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedTree:
    """A folder, or a file, that more than one box reads, through this machine's page cache.

    Args:
        path: Where we read it.
        without: Paths in it that boxes do not share.
    """

    path: Path
    without: frozenset[str] = frozenset()


class Sandbox(Protocol):
    """A backend that is ready to run programs; made once per tournament, used by many threads."""

    @property
    def name(self) -> str:
        """`bubblewrap`, `docker`, `podman`, `gvisor` or `none`."""
        ...

    @property
    def limit_tier(self) -> LimitTier:
        """How strictly it keeps limits on this machine."""
        ...

    @property
    def versions(self) -> Mapping[str, str]:
        """What its results depend on (its own version, the interpreter's packages): sorted."""
        ...

    @property
    def shown(self) -> tuple[Path, ...]:
        """Host folders that every box can read; nothing secret may lie in them."""
        ...

    @property
    def images(self) -> ContainerImages | None:
        """The container images that it can run programs in; None where it uses none."""
        ...

    def shared(self, images: Sequence[str]) -> AbstractContextManager[Sequence[SharedTree]]:
        """What boxes read that other boxes read, too; readable as long as the context is open.

        What they read most comes first.

        Args:
            images: IDs of the container images that boxes will be made of.

        Raises:
            SandboxError: An image cannot be looked into.
        """
        ...

    def run(self, spec: RunSpec) -> BoxRun:
        """Run one program to its end, under its limits, and kill all it leaves.

        Raises:
            SandboxError: The box failed (not the program): verdict INFRA.
        """
        ...

    def close(self) -> None:
        """Kill what is still running and remove everything of ours from the machine."""
        ...
