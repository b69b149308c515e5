"""Packages that stand beside advcomp and add to it by entry points, as pip would install them."""

import importlib
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

Adds = Callable[[str, str], None]


def adding(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Adds:
    """`adds(entry_points, code)` installs `added1`, then `added2`, for the rest of a test."""
    numbers = count(1)

    def adds(entry_points: str, code: str) -> None:
        name = f"added{next(numbers)}"
        information = folder / f"site-{name}" / f"{name}-1.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (information / "entry_points.txt").write_text(entry_points)
        (information.parent / f"{name}.py").write_text(code)
        monkeypatch.syspath_prepend(str(information.parent))
        # Another test's package of the same name may still be loaded.
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()

    return adds
