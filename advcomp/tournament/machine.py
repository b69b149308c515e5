"""Facts about the machine that runs a tournament."""

import hashlib
import os
import platform
from functools import cache
from pathlib import Path

import advcomp


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def machine_facts() -> dict[str, str | int]:
    """What results say about the machine; no two runs need to agree on it."""
    return {
        "cores": cores(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "package_digest": package_digest(),
    }


@cache
def package_digest() -> str:
    """SHA-256 of advcomp's own files: whether two runs were made by the very same code."""
    package = Path(advcomp.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(package)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
