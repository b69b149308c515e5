"""What an engine is told to take away from every container: the options of `create`."""

import csv
import io
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from platform import machine

from advcomp.errors import SandboxUnavailable
from advcomp.sandbox.base import Limits, RunSpec
from advcomp.sandbox.box.identity import UidLease
from advcomp.sandbox.box.shown import environment
from advcomp.sandbox.engine.attached import order
from advcomp.sandbox.engine.client import Engine, Image
from advcomp.sandbox.engine.outputs import tmpfs
from advcomp.sandbox.engine.ownership import arguments
from advcomp.sandbox.limits.gpus import Gpu, cdi_arguments, docker_arguments
from advcomp.sandbox.limits.inherited import inherited_limits
from advcomp.sandbox.limits.seccomp import filter_program

__all__ = [
    "CODE",
    "FIRST",
    "GVISOR_PIDS",
    "OVERHEAD_PIDS",
    "PAGE_BYTES",
    "SCRATCH",
    "container_walls",
    "first_process",
    "order_for",
]

CODE = "/code"
SCRATCH = ("/tmp", "/dev/shm")  # noqa: S108 - paths inside the box
FIRST = "/.advcomp-first"
FIRST_FOLDER = Path(__file__).with_name("first")
PAGE_BYTES = 4096
OVERHEAD_PIDS = 1
"""The first process."""
GVISOR_PIDS = 4096
"""Threads of gVisor itself, and a few for every process inside: its kernel limits none."""
ENGINE_MOUNTS = ("/dev/mqueue",)
"""What engines mount writable for everybody, and no program needs."""
TERMINALS = "/dev/pts"
"""Covered where we may not look into a container, and so cannot bound how many it takes."""


def first_process() -> Path:
    """Our own first process for this machine's architecture.

    Raises:
        SandboxUnavailable: There is none, or it lost its exec bit on the way here.
    """
    architecture = {"arm64": "aarch64"}.get(machine(), machine())
    program = FIRST_FOLDER / f"first-{architecture}"
    if not program.exists():
        known = ", ".join(sorted(p.name[6:] for p in FIRST_FOLDER.glob("first-*")))
        raise SandboxUnavailable(f"containers need an architecture of {known}; got {machine()}")
    if not program.stat().st_mode & 0o001:
        raise SandboxUnavailable(
            f"{program}: is not executable", f"remedy: `chmod +x {shlex.quote(str(program))}`"
        )
    return program


def order_for(spec: RunSpec, mark: str, *, path: str, gvisor: bool) -> bytes:
    """What the first process is to do for a run.

    Args:
        spec: The run.
        mark: See `attached.new_mark`.
        path: The PATH of the program.
        gvisor: Whether gVisor is the kernel, which does not limit processes: they are counted.
    """
    code = () if spec.code is None else (CODE,)
    return order(
        spec.argv,
        mark=mark,
        merged=spec.stdout_fd is None,
        most_threads=spec.limits.pids if gvisor else 0,
        cwd=CODE if spec.code is not None else "/tmp",  # noqa: S108 - inside the box
        env=environment(path, spec.limits),
        scratch=(*SCRATCH, *code),
        seccomp=filter_program(),
    )


def container_walls(
    engine: Engine,
    image: Image,
    spec: RunSpec,
    *,
    user: UidLease,
    code_bytes: int,
    labels: Mapping[str, str],
    gpus: Sequence[Gpu],
) -> list[str]:
    """Options of `create` for a box, its output folder and image not among them.

    Args:
        engine: Who will make it.
        image: What it runs on.
        spec: What runs in it.
        user: Who runs in it.
        code_bytes: Size of the entry.
        labels: Whose it is.
        gpus: What it is lent.
    """
    return [
        *("--interactive", "--pull", "never", *arguments(labels), *engine.runtime_arguments),
        *(
            "--entrypoint",
            FIRST,
            "--workdir",
            "/",
            "--stop-signal",
            "SIGKILL",
            "--hostname",
            "box",
        ),
        *("--no-healthcheck", "--restart", "no", "--log-driver", "none"),
        *("--network", "none", "--ipc", "private", "--cgroupns", "private", "--read-only"),
        *("--user", f"{user.uid}:{user.gid}", "--cap-drop", "ALL"),
        *("--security-opt", "no-new-privileges"),
        *_limits(engine, spec.limits, code_bytes, user),
        *_folders(engine, image, spec, user, code_bytes),
        *_variables(engine, image),
        *_devices(engine, gpus),
        *(() if engine.is_docker else PODMAN),
    ]


PODMAN = (
    "--read-only-tmpfs=false",
    "--image-volume",
    "ignore",
    "--http-proxy=false",
    "--no-hosts",
)
"""What Podman would add by itself."""


def _limits(engine: Engine, limits: Limits, code_bytes: int, user: UidLease) -> list[str]:
    """The engine's limits, where it can keep any, and resource limits."""
    pids = limits.pids + OVERHEAD_PIDS + (GVISOR_PIDS if engine.is_gvisor else 0)
    inherited = {**inherited_limits(limits, code_bytes, processors=os.cpu_count() or 1)}
    if not user.is_shared:  # counted per uid, everywhere
        inherited["nproc"] = pids
    words = [word for name, n in inherited.items() for word in ("--ulimit", f"{name}={n}:{n}")]
    if not engine.keeps_limits:
        return words
    return [
        *words,
        *("--memory", str(limits.memory_bytes), "--memory-swap", str(limits.memory_bytes)),
        *("--cpus", f"{limits.cpus:g}", "--pids-limit", str(pids)),
    ]


def _folders(
    engine: Engine, image: Image, spec: RunSpec, user: UidLease, code_bytes: int
) -> list[str]:
    """Scratch folders, the entry's, the inputs, and covers over what the image wants writable."""
    size = spec.limits.output_bytes
    taken = {*SCRATCH, CODE, *spec.inputs, spec.output}
    terminals = (TERMINALS,) if user.is_shared and not engine.is_gvisor else ()
    covered = [p for p in (*ENGINE_MOUNTS, *terminals, *image.volumes) if p not in taken]
    words = [*_covers(covered), *("--mount", _bind(first_process(), FIRST))]
    for path in SCRATCH:
        words += tmpfs(engine, path, size, user, mode="1777")
    if spec.code is not None:
        words += tmpfs(engine, CODE, size + code_bytes, user)
    for inside, outside in spec.inputs.items():
        words += ["--mount", _bind(outside, inside)]
    return words


def _covers(paths: Sequence[str]) -> list[str]:
    """Empty folders that nobody can write."""
    options = f"ro,size={PAGE_BYTES},mode=0555"
    return [word for path in paths for word in ("--tmpfs", f"{path}:{options}")]


def _variables(engine: Engine, image: Image) -> list[str]:
    """Take the image's variables away: some change what the engine itself does (NVIDIA_*).

    Docker is told that they are empty: one without "=" it would fill with the host's value.
    """
    names = [name for name in image.variables if name != "PATH"]
    empty = [word for name in names for word in ("--env", f"{name}=")]
    return empty if engine.is_docker else ["--unsetenv-all"]


def _devices(engine: Engine, gpus: Sequence[Gpu]) -> list[str]:
    """GPUs, by the means that the engine has; none, whatever its default runtime would give."""
    if not gpus:
        return ["--env", "NVIDIA_VISIBLE_DEVICES=void"]
    return docker_arguments(gpus) if engine.has_nvidia_hook else cdi_arguments(gpus)


def _bind(outside: Path, inside: str) -> str:
    """A read-only bind; the option is a line of CSV."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(
        ["type=bind", f"source={outside}", f"target={inside}", "readonly"]
    )
    return line.getvalue()
