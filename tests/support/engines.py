"""Container engines, which all workers, and all checkouts of a machine, share."""

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from support.parts import cleans_engines, needs_engines

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
