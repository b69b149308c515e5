"""What tests need that a machine may not have: absent, a visible skip; required, a failure.

ADVCOMP_REQUIRE names, separated by commas, what must not be absent (continuous integration sets
it): `ADVCOMP_REQUIRE=bubblewrap,browser pytest`.
"""

import os

# Before torch is imported, here and in what tests start: its threads wait by spinning, and
# whatever else runs beside them then waits in earnest (a test of 2 s took 71 s).
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Tests of the page cache keep it; for all others, a few seconds for every run would be many.
os.environ.setdefault("ADVCOMP_PAGE_CACHE", "open")

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.browser import Browser
from support.engines import failure_before_engines, shared_engines
from support.leftovers import unmount_leftovers
from support.parts import COLLECTED, LONG, PARTS, Sets, needs_engines, part_of, rank_of

from advcomp.errors import SandboxUnavailable
from advcomp.sandbox.base import Sandbox
from advcomp.sandbox.probe import open_sandbox

Require = Callable[[str], None]


def _sandbox_obstacle(name: str) -> str | None:
    try:
        open_sandbox(name).close()
    except SandboxUnavailable as error:
        return str(error)
    return None


def _runtime_obstacle() -> str | None:
    if obstacle := _sandbox_obstacle("podman"):
        return obstacle
    asked = ["podman", "image", "exists", "advcomp/runtime"]
    missing = subprocess.run(asked, capture_output=True, timeout=60, check=False).returncode
    return "podman has no image advcomp/runtime: docker/build.sh runtime" if missing else None


def _program_obstacle(*names: str) -> str | None:
    """Looks beside the interpreter, too: a virtual environment need not be on the PATH."""
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    found = any(shutil.which(name, path=path) for name in names)
    return None if found else f"none of {', '.join(names)} is installed"


def _compiler_obstacle() -> str | None:
    """What `torch.compile` builds kernels with: a C++ compiler, and Python's headers."""
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    if not headers.exists():
        return f"{headers} is not installed"
    return _program_obstacle("g++", "clang++")


def _slurm_obstacle() -> str | None:
    if obstacle := _program_obstacle("srun"):
        return obstacle
    asked = subprocess.run(["sinfo"], capture_output=True, text=True, timeout=60, check=False)
    return asked.stderr.strip() if asked.returncode else None


def _root_obstacle() -> str | None:
    return "this is not root" if os.geteuid() else None


def _namespaces_obstacle() -> str | None:
    """Of networks: a container may have root, and no right to make them."""
    if obstacle := _root_obstacle() or _program_obstacle("ip") or _program_obstacle("nsenter"):
        return obstacle
    tried = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True)
    return tried.stderr.strip() if tried.returncode else None


OBSTACLES: Mapping[str, Callable[[], str | None]] = {
    "bubblewrap": lambda: _sandbox_obstacle("bubblewrap"),
    "browser": lambda: _program_obstacle(
        "chromium", "chromium-browser", "google-chrome", "chrome", "chrome-headless-shell"
    ),
    "docker": lambda: _sandbox_obstacle("docker"),
    "podman": lambda: _sandbox_obstacle("podman"),
    "gvisor": lambda: _sandbox_obstacle("gvisor"),
    "runtime": _runtime_obstacle,
    "compiler": _compiler_obstacle,
    "mpi": lambda: _program_obstacle("mpiexec"),
    "slurm": _slurm_obstacle,
    "root": _root_obstacle,
    "namespaces": _namespaces_obstacle,
    "sshd": lambda: _program_obstacle("sshd"),
}


def _required() -> set[str]:
    return set(filter(None, os.environ.get("ADVCOMP_REQUIRE", "").split(",")))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--part", choices=PARTS, help="run one part of the suite (support/parts.py)")
    parser.addoption("--long", action="store_true", help="run the long set, too")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose the part, and begin with what takes longest."""
    wanted = {config.getoption("--part")} if config.getoption("--part") else {*PARTS}
    if not config.getoption("--long") and config.getoption("--part") != LONG:
        wanted -= {LONG}
    left_out = [item for item in items if part_of(item) not in wanted]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    chosen = [item for item in items if part_of(item) in wanted]
    config.stash[COLLECTED] = Sets(
        short=[item.nodeid for item in chosen],
        whole=[item.nodeid for item in [*chosen, *left_out]],
    )
    items[:] = sorted(chosen, key=rank_of)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """What cleans an engine has it to itself, fixtures included, whatever other workers do."""
    with shared_engines(item):
        return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Engines are used when their images are there."""
    if needs_engines(item) and (failure := failure_before_engines()):
        pytest.fail(failure)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep a group's tests with one worker, and groups in their order, with a mere `-n 2`.

    pytest-xdist's own `--dist loadgroup` does nothing with pytest 9.2: it adds groups to names of
    tests, which are no longer its to change.
    """
    from support.groups import GroupScheduling

    config.option.loadscopereorder = False
    return GroupScheduling(config, log)


def pytest_configure() -> None:
    if unknown := _required() - set(OBSTACLES):
        raise pytest.UsageError(
            f"ADVCOMP_REQUIRE: expected some of {', '.join(OBSTACLES)}; got {', '.join(unknown)}"
        )


def pytest_sessionstart(session: pytest.Session) -> None:
    """Once, before workers begin; only root could have mounted anything."""
    if os.geteuid() == 0 and not hasattr(session.config, "workerinput"):
        unmount_leftovers()


@pytest.fixture(scope="session")
def require() -> Require:
    """`require("docker")` skips the test where there is none, or fails it if one is required."""
    found: dict[str, str | None] = {}

    def check(name: str) -> None:
        if name not in found:
            obstacle_of = OBSTACLES.get(name, partial(_sandbox_obstacle, name))
            found[name] = obstacle_of()
        obstacle = found[name]
        if obstacle is None:
            return
        if name in _required():
            pytest.fail(f"{name} is required by ADVCOMP_REQUIRE, but absent: {obstacle}")
        pytest.skip(f"{name} is absent: {obstacle}")

    return check


@pytest.fixture(scope="session")
def sandbox(require: Require) -> Iterator[Sandbox]:
    """The default sandbox, ready."""
    require("bubblewrap")
    ready = open_sandbox("bubblewrap")
    yield ready
    ready.close()


@pytest.fixture(scope="session")
def browser(require: Require, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser, started once."""
    require("browser")
    ready = Browser(tmp_path_factory.mktemp("profile"))
    yield ready
    ready.close()
