"""What every box can read, and what must therefore not lie there."""

import site
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from advcomp.errors import InvalidConfig

_LABELLED_DATA = ("sklearn/datasets/data",)
"""Folders of installed packages that hold a tournament's images with their labels."""


def labelled_folders() -> tuple[Path, ...]:
    """Folders of labelled images inside what boxes are shown: they must be covered."""
    return tuple(
        folder
        for packages in sorted(set(_package_folders()))
        for name in _LABELLED_DATA
        if (folder := packages / name).is_dir()
    )


def refuse_exposed(places: Mapping[str, Path], shown: Iterable[Path]) -> None:
    """Refuse a place that every submission could read.

    Args:
        places: What it is -> where it is.

    Raises:
        InvalidConfig: All of them that lie inside a folder that boxes are shown.
    """
    trees = [tree.resolve() for tree in shown]
    problems = [
        f"{what}: {place} lies inside {tree}, which every submission can read; "
        "move it to a folder outside"
        for what, place in places.items()
        for tree in trees
        if place.resolve().is_relative_to(tree)
    ]
    if problems:
        raise InvalidConfig(*problems)


def _package_folders() -> Iterator[Path]:
    for path in (*sys.path, *site.getsitepackages()):
        yield Path(path).resolve()
    for prefix in {Path("/usr"), Path("/usr/local"), Path(sys.prefix), Path(sys.base_prefix)}:
        for packages in ("site-packages", "dist-packages"):
            yield from (path.resolve() for path in prefix.glob(f"lib*/python3*/{packages}"))
