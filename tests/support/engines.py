"""Container engines, which all workers, and all checkouts of a machine, share."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from support.parts import cleans_engines, needs_engines
from support.processes import command_line, processes

from advcomp.sandbox.engine.client import open_engine
from advcomp.sandbox.engine.orphans import owned

BEFORE = "ADVCOMP_BEFORE_ENGINES"
"""Names a command that ends when engines can be used: `.ci/run` builds images meanwhile."""
LOCK = Path(tempfile.gettempdir(), f"advcomp-tests-of-engines-{os.getuid()}")


@contextmanager
def shared_engines(item: pytest.Item) -> Iterator[None]:
    """Hold the engines as long as a test lasts: alone where it cleans or restarts them."""
    if not needs_engines(item):
        yield
        return
    with LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if cleans_engines(item) else fcntl.LOCK_SH)
        yield


@cache
def failure_before_engines() -> str | None:
    """Wait for what must be done before engines are used; what went wrong, if anything did."""
    if not (command := os.environ.get(BEFORE)):
        return None
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    told = f"{done.stdout}{done.stderr}"
    return None if done.returncode == 0 else f"{BEFORE}: {command}: {done.returncode}\n{told}"


def with_engines(harness: int) -> list[str]:
    """Containers and volumes of a harness, going by their labels."""
    engines = [open_engine(name) for name in ("docker", "podman") if shutil.which(name)]
    return [
        name
        for engine in engines
        for kind in ("container", "volume")
        for name, owner in owned(engine, kind).items()
        if owner.split("-")[1] == str(harness)
    ]


def gvisors_of(harness: int) -> list[int]:
    """The processes on this machine that are the kernels of a harness's containers."""
    return kernels(with_engines(harness)) if kernels([""]) else []  # asking engines takes a second


def kernels(names: Iterable[str]) -> list[int]:
    """Kernels of gVisor's with one of these names in their command line."""
    lines = {pid: command_line(pid) for pid in processes("runsc-sandbox")}
    found = {pid: line for pid, line in lines.items() if line.startswith("runsc-sandbox")}
    return [pid for pid, line in found.items() if any(name in line for name in names)]
