"""What every box shows of the host, and the environment that every program gets.

Shown are the system's programs and libraries, the interpreter that advcomp runs on with its
packages, and the folder of the advcomp package itself: each at the path that it has on the host,
with nothing else around it. So `import advcomp` works inside however it was installed (an
editable install points at that very path), and a checkout around the package is not there.
"""

import math
import site
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

import advcomp
from advcomp.errors import SandboxError
from advcomp.sandbox.base import Limits, SharedTree

__all__ = ["ETC_FILES", "HostView", "environment", "host_view", "interpreter_versions"]

SYSTEM_TREES = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
ETC_HOST = ("/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime")
ETC_FILES: Mapping[str, str] = {
    "/etc/passwd": "root:x:0:0::/:/bin/sh\nplayer:x:{uid}:{uid}::/tmp:/bin/sh\n",
    "/etc/group": "root:x:0:\nplayer:x:{uid}:\n",
    "/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
ALIASES = "/run/python"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostView:
    """What a box shows, as paths inside it.

    Args:
        links: Inside path -> target of a symbolic link (/bin -> usr/bin, names of the
            interpreter).
        trees: Inside path -> host folder or file, read-only.
        covered: Folders inside those that are shown empty.
        program_path: The PATH of every program.
    """

    links: Mapping[str, str]
    trees: Mapping[str, Path]
    covered: tuple[str, ...]
    program_path: str

    @property
    def shown(self) -> tuple[Path, ...]:
        """Host folders that every box can read, as real paths."""
        trees = (tree.resolve() for tree in self.trees.values())
        return tuple(dict.fromkeys(tree for tree in trees if tree.is_dir()))

    @property
    def shared(self) -> tuple[SharedTree, ...]:
        """All that boxes read of the host, as others do; the interpreter and packages first."""
        trees = sorted(self.trees.items(), key=lambda tree: tree[0] in SYSTEM_TREES)
        return tuple(SharedTree(path=tree.resolve()) for _, tree in trees)

    def conflicts(self, taken: Iterable[str]) -> list[str]:
        """What of it lies in folders that a box needs for itself."""
        return [
            f"{tree}: advcomp and its interpreter must not lie in {folder}, which boxes need for "
            "themselves; install them elsewhere"
            for folder in taken
            for tree in self.trees
            if Path(tree).is_relative_to(folder)
        ]


def host_view(hidden: Sequence[Path] = ()) -> HostView:
    """What the boxes of this machine and this interpreter show, `hidden` folders covered.

    Raises:
        SandboxError: A hidden folder does not exist.
    """
    links = {p: str(Path(p).readlink()) for p in SYSTEM_TREES if Path(p).is_symlink()}
    trees = {p: Path(p) for p in SYSTEM_TREES if Path(p).is_dir() and p not in links}
    for folder in (*_interpreter_folders(), Path(advcomp.__file__).parent):
        if not _covers(trees.values(), folder):
            trees[str(folder)] = folder
    aliases = _interpreter_aliases()
    links.update(aliases)
    interpreter_folder = ALIASES if aliases else str(Path(sys.executable).parent)
    return HostView(
        links=links,
        trees=trees | {p: Path(p) for p in ETC_HOST if Path(p).exists()},
        covered=_places(hidden, trees),
        program_path=":".join(
            dict.fromkeys([interpreter_folder, "/usr/local/bin", "/usr/bin", "/bin"])
        ),
    )


def environment(program_path: str, limits: Limits) -> dict[str, str]:
    """The whole environment of a program (rulebook, "Where it runs")."""
    threads = str(max(1, math.floor(limits.cpus)))
    return {
        "PATH": program_path,
        "HOME": "/tmp",  # noqa: S108 - a path inside the box
        "TMPDIR": "/tmp",  # noqa: S108 - a path inside the box
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "PYTHONUNBUFFERED": "1",
        "ADVCOMP_MEMORY_BYTES": str(limits.memory_bytes),
    }


def interpreter_versions() -> dict[str, str]:
    """The interpreter and its packages, by name.

    Not what else is on this process's path: boxes do not see it, and setuptools, where something
    imports it, puts packages of its own there.
    """
    # `version` of a distribution would read and parse its metadata once more.
    told = (found.metadata for found in distributions(path=site.getsitepackages()))
    found = {each["Name"].lower(): each["Version"] for each in told}
    return dict(sorted({**found, "python": ".".join(map(str, sys.version_info[:3]))}.items()))


def _interpreter_folders() -> list[Path]:
    """Where the interpreter lives: its prefixes, and what its executable really is."""
    folders = [Path(sys.prefix), Path(sys.base_prefix)]
    real = Path(sys.executable).resolve().parent.parent
    library = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/os.py"
    return [*folders, real] if (real / library).is_file() else folders


def _interpreter_aliases() -> dict[str, str]:
    """Links that make `python` and `python3` mean this interpreter, where its folder does not."""
    executable = Path(sys.executable)
    wanted = [executable.parent / name for name in ("python", "python3")]
    if all(path.exists() and path.samefile(executable) for path in wanted):
        return {}
    return {f"{ALIASES}/{path.name}": str(executable) for path in wanted}


def _covers(trees: Iterable[Path], folder: Path) -> bool:
    """Whether `folder` is already seen, at its own path, in one of `trees`."""
    return any(folder.is_relative_to(tree) for tree in trees)


def _places(hidden: Sequence[Path], trees: Mapping[str, Path]) -> tuple[str, ...]:
    """Where the hidden folders are seen inside, each at every path that shows it."""
    places: list[str] = []
    problems: list[str] = []
    for folder in hidden:
        real = folder.resolve()
        seen = [
            str(Path(inside) / real.relative_to(tree.resolve()))
            for inside, tree in trees.items()
            if real.is_relative_to(tree.resolve())
        ]
        if not real.is_dir():
            problems.append(f"{folder}: expected a folder to hide from submissions, found none")
        places += seen
    if problems:
        raise SandboxError(*problems)
    return tuple(dict.fromkeys(places))
