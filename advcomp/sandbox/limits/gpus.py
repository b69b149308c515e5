"""NVIDIA GPUs: which there are, lent to one box at a time, and looked at when they come back.

Theory of operation. The driver tells its GPUs in /proc, and what is on them through NVML. A loan
is a file lock, one for each GPU, in a folder that all users of the machine share: the kernel frees
it when its harness dies. A box gets all its GPUs or waits; so no two wait for each other. When the
box is dead, its GPUs must be as they were: no process on them, and the memory free again, which
the driver may need a moment for. One that is not is set aside: what it should be is written into
its lock file, nobody is lent it until it is so again, and the run is our failure (INFRA), for its
successor would suffer.
"""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from advcomp.errors import SandboxError
from advcomp.sandbox.limits.nvml import GpuUse, gpu_use

__all__ = [
    "Gpu",
    "Gpus",
    "bubblewrap_arguments",
    "cdi_arguments",
    "docker_arguments",
    "parse_cdi",
    "parse_libraries",
]

DRIVER = Path("/proc/driver/nvidia/gpus")
CONTROL_NODES = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset")
LIBRARIES = re.compile(
    r"^\s*lib(?:cuda|nvidia-[a-z0-9-]+|nvcuvid|nvoptix)\.so\S* .* => (/\S+)$", re.M
)
LOCK_FOLDERS = (Path("/run/lock"), Path(tempfile.gettempdir()))
ANSWER_S = 30.0
CLEAN_S = 15.0
"""How long the driver may take to free what a dead process held."""
LOOK_S = 0.5
WAIT_S = 1.0
"""How often a box that waits for GPUs tries again."""
SLACK_MIB = 64
"""What used memory differs by without anybody's doing."""


@dataclass(frozen=True, slots=True, order=True)
class Gpu:
    """One GPU: the number of its device node, its name for all tools, and its model."""

    minor: int
    uuid: str
    model: str


class Gpus:
    """The GPUs of this machine.

    Args:
        driver: Where the driver tells of them.
        locks: A folder shared by all users of this machine.
        use_of: What is on GPUs, by UUID.
    """

    def __init__(
        self,
        driver: Path = DRIVER,
        locks: Path | None = None,
        use_of: Callable[[Collection[str]], Mapping[str, GpuUse]] = gpu_use,
    ) -> None:
        self._driver = driver
        self._locks = locks or next(f for f in LOCK_FOLDERS if f.is_dir()) / "advcomp-gpus"
        self._use_of = use_of

    def found(self) -> list[Gpu]:
        """All of them."""
        files = sorted(self._driver.glob("*/information"))
        return sorted(gpu for file in files if (gpu := _parse_information(file.read_text())))

    def obstacle(self, count: int) -> str | None:
        """Why a box cannot be lent `count` GPUs here: what was looked for, and found."""
        found = self.found()
        if len(found) < count:
            return f"{self._driver}: {', '.join(gpu.model for gpu in found) or 'no GPU'}"
        try:
            self._use_of([gpu.uuid for gpu in found])
        except SandboxError as error:
            return str(error)
        return None

    @contextlib.contextmanager
    def lent(self, count: int) -> Iterator[tuple[Gpu, ...]]:
        """Lend GPUs, waiting for them as long as it takes; look at them when they come back.

        Raises:
            SandboxError: There are not as many, or the box left one dirty.
        """
        if count == 0:
            yield ()
            return
        with contextlib.ExitStack() as held:
            loans = self._await(count, held)
            gpus = tuple(loans)
            uses = self._use_of([gpu.uuid for gpu in gpus])
            before = {uuid: use.memory_mib for uuid, use in uses.items()}
            try:
                yield gpus
            finally:
                dirty = self._dirty(gpus, before)
                for gpu in dirty:
                    os.pwrite(loans[gpu], f"{before[gpu.uuid]}\n".encode(), 0)
        if dirty:
            names = ", ".join(gpu.uuid for gpu in dirty)
            raise SandboxError(f"{names}: still in use after the box was dead; set aside")

    def _await(self, count: int, held: contextlib.ExitStack) -> dict[Gpu, int]:
        """GPU -> descriptor of its lock, closed with `held`."""
        while True:
            found = self.found()
            sound = len(found)
            with contextlib.ExitStack() as tries:
                taken: dict[Gpu, int] = {}
                for gpu in found:
                    if len(taken) == count:
                        break
                    lock = self._lock(gpu, tries)
                    if lock is not None and self._is_set_aside(gpu, lock):
                        sound -= 1
                    elif lock is not None:
                        taken[gpu] = lock
                if len(taken) == count:
                    held.push(tries.pop_all())
                    return taken
            if sound < count:
                raise SandboxError(
                    f"GPUs: expected {count} that work, got {sound} of {len(found)}; the others "
                    "are set aside: see nvidia-smi for what is still on them"
                )
            time.sleep(WAIT_S)

    def _lock(self, gpu: Gpu, held: contextlib.ExitStack) -> int | None:
        """Descriptor of a GPU's lock, closed with `held`; None where somebody else has it."""
        with contextlib.suppress(FileExistsError):
            self._locks.mkdir()
            self._locks.chmod(0o1777)
        fd = _open_for_all(self._locks / gpu.uuid)
        held.callback(os.close, fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        return fd

    def _is_set_aside(self, gpu: Gpu, lock: int) -> bool:
        """Whether a GPU is still dirty; one that has become clean is taken back."""
        clean_mib = os.pread(lock, 32, 0).strip()
        if not clean_mib:
            return False
        if self._dirty_now([gpu], {gpu.uuid: int(clean_mib)}):
            return True
        os.ftruncate(lock, 0)
        return False

    def _dirty(self, gpus: Sequence[Gpu], before: Mapping[str, int]) -> list[Gpu]:
        """Those that do not become clean in good time."""
        deadline = time.monotonic() + CLEAN_S
        while dirty := self._dirty_now(gpus, before):
            if time.monotonic() > deadline:
                break
            time.sleep(LOOK_S)
        return dirty

    def _dirty_now(self, gpus: Sequence[Gpu], before: Mapping[str, int]) -> list[Gpu]:
        """Those with a process on them, or more memory in use than `before`, MiB by UUID."""
        uses = self._use_of([gpu.uuid for gpu in gpus])
        return [
            gpu
            for gpu in gpus
            if uses[gpu.uuid].processes or uses[gpu.uuid].memory_mib > before[gpu.uuid] + SLACK_MIB
        ]


def docker_arguments(gpus: Sequence[Gpu]) -> list[str]:
    """What lends GPUs to a container of Docker with NVIDIA's runtime hook; CSV in quotes."""
    return ["--gpus", f'"device={",".join(gpu.uuid for gpu in gpus)}"'] if gpus else []


def cdi_arguments(gpus: Sequence[Gpu]) -> list[str]:
    """What lends GPUs to a container of an engine that knows CDI (Podman; Docker since 28.3)."""
    return [word for gpu in gpus for word in ("--device", f"nvidia.com/gpu={gpu.uuid}")]


def bubblewrap_arguments(
    gpus: Sequence[Gpu], shown: Collection[Path], devices: Path = Path("/dev")
) -> list[str]:
    """What shows GPUs to a box of bubblewrap: device nodes, and the driver's libraries.

    Args:
        shown: Folders that the box shows anyway; libraries in them need nothing.
        devices: The host's device nodes.
    """
    if not gpus:
        return []
    names = [f"nvidia{gpu.minor}" for gpu in gpus] + list(CONTROL_NODES)
    nodes = [devices / name for name in names if (devices / name).exists()]
    libraries = [
        library
        for library in driver_libraries()
        if not any(library.is_relative_to(folder) for folder in shown)
    ]
    return [
        *(word for node in nodes for word in ("--dev-bind", str(node), f"/dev/{node.name}")),
        *(word for path in libraries for word in ("--ro-bind", str(path), str(path))),
    ]


def driver_libraries() -> list[Path]:
    """The driver's libraries, as the linker knows them."""
    program = shutil.which("ldconfig", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    return [] if program is None else parse_libraries(_said([program, "-p"]))


def parse_libraries(said: str) -> list[Path]:
    """The driver's libraries in the output of `ldconfig -p`."""
    return sorted({Path(path) for path in LIBRARIES.findall(said)})


def parse_cdi(said: str) -> set[str]:
    """UUIDs that CDI can lend, from `nvidia-ctk cdi list`."""
    return set(re.findall(r"^nvidia\.com/gpu=(GPU-\S+)$", said, re.M))


def _parse_information(said: str) -> Gpu | None:
    """One GPU, from /proc/driver/nvidia/gpus/*/information; None where it is excluded."""
    pairs = (line.partition(":") for line in said.splitlines())
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    if fields.get("GPU Excluded") == "Yes" or "GPU UUID" not in fields:
        return None
    return Gpu(int(fields["Device Minor"]), fields["GPU UUID"], fields.get("Model", "GPU"))


def _open_for_all(path: Path) -> int:
    """Open a file that every user may lock; making one that is there is forbidden to others."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        os.fchmod(fd, 0o666)
        return fd


def _said(command: Sequence[str]) -> str:
    """What a tool prints.

    Raises:
        SandboxError: It fails.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SandboxError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise SandboxError(f"{command[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
