"""What dead harnesses left on this machine, and images of ours that nobody uses: `advcomp gc`.

Only what says that it is ours, and that its harness is dead, is removed: containers and volumes by
their labels, control groups by their names, temporary folders by their marks. Images that entries
delivered are loaded again when they are needed; they stay while any harness is alive.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from advcomp.errors import AdvcompError, SandboxUnavailable
from advcomp.sandbox.box import traces
from advcomp.sandbox.engine.client import ENGINES, Engine, open_engine
from advcomp.sandbox.engine.image_supply import DELIVERED
from advcomp.sandbox.engine.orphans import orphans
from advcomp.sandbox.engine.ownership import IMAGE
from advcomp.sandbox.limits import cgroups
from advcomp.sandbox.limits.tiers import MOUNT

__all__ = ["Garbage", "find_garbage", "folder_garbage", "remove_all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """One thing to remove.

    Args:
        kind: What it is, such as `container of docker`.
        name: Its name, or its path.
        size_bytes: What removing it frees, as far as that is known.
        remove: Removes it; raises AdvcompError or OSError where it cannot.
    """

    kind: str
    name: str
    size_bytes: int
    remove: Callable[[], object]


def find_garbage(
    temporary: Path | None = None, *, pass_over: Callable[[str], object] = lambda why: None
) -> Iterator[Garbage]:
    """All that dead harnesses left, and unused images of ours.

    Args:
        temporary: Where temporary folders are; by default the system's.
        pass_over: Told of every engine that is here and does not answer, and why.
    """
    for folder in traces.abandoned(temporary):
        yield folder_garbage("temporary folder", folder)
    for group in cgroups.stale(MOUNT):
        yield Garbage(
            kind="control group",
            name=str(group),
            size_bytes=0,
            remove=partial(cgroups.clear, group),
        )
    keep_images = bool(traces.in_use(temporary))
    for name in ENGINES:
        try:
            engine = open_engine(name)
        except SandboxUnavailable as error:
            if shutil.which(name):
                pass_over(error.problems[0])
            continue
        yield from _of_engine(engine, keep_images=keep_images)


def folder_garbage(kind: str, path: Path) -> Garbage:
    """A folder, or a file, that is not needed any more."""
    return Garbage(
        kind=kind,
        name=str(path),
        size_bytes=_bytes_below(path),
        remove=path.unlink if path.is_file() else partial(shutil.rmtree, path),
    )


def _bytes_below(path: Path) -> int:
    """Size of a file, or of all files below a folder.

    What vanishes meanwhile counts nothing, and nor does what has another name, which keeps it.
    """
    total = 0
    for file in (path, *path.rglob("*")):
        with suppress(OSError):
            status = file.lstat()
            total += 0 if file.is_dir() or status.st_nlink > 1 else status.st_size
    return total


def _of_engine(engine: Engine, *, keep_images: bool) -> Iterator[Garbage]:
    for container in orphans(engine, "container"):
        yield _object(engine, "container", container, 0, "rm", "--force", "--volumes", container)
    for volume in orphans(engine, "volume"):
        yield _object(engine, "volume", volume, 0, "volume", "rm", "--force", volume)
    if keep_images:
        return
    # One query each for what an entry delivered, and for what a later build left without a name.
    delivered = _image_ids(engine, f"reference=*{DELIVERED}")
    superseded = _image_ids(engine, "dangling=true", f"label={IMAGE}")
    for image in dict.fromkeys([*delivered, *superseded]):
        if not _is_used(engine, image):
            (said,) = engine.inspect("image", image)
            size = int(said["Size"])
            yield _object(engine, "image", image, size, "image", "rm", image)


def _object(engine: Engine, kind: str, name: str, size: int, *words: str) -> Garbage:
    return Garbage(
        kind=f"{kind} of {engine.name}",
        name=name,
        size_bytes=size,
        remove=lambda: engine.call(*words),
    )


def _image_ids(engine: Engine, *filters: str) -> list[str]:
    """IDs of images that meet all filters."""
    words = [word for given in filters for word in ("--filter", given)]
    said = engine.call("image", "ls", "--no-trunc", "--format", "{{.ID}}", *words)
    return [_whole(line) for line in said.split()]


def _is_used(engine: Engine, image: str) -> bool:
    """Whether any container, running or not, was made of an image."""
    digits = image.removeprefix("sha256:")  # Podman knows no image by its ID with the prefix here
    return bool(
        engine.call("container", "ls", "--all", "--quiet", "--filter", f"ancestor={digits}")
    )


def _whole(identity: str) -> str:
    return identity if identity.startswith("sha256:") else f"sha256:{identity}"


def remove_all(found: list[Garbage]) -> tuple[list[Garbage], list[str]]:
    """Remove things; those that are gone, and why others are not."""
    gone, problems = [], []
    for garbage in found:
        try:
            garbage.remove()
        except (OSError, AdvcompError) as error:
            problems.append(f"{garbage.kind} {garbage.name}: {error}")
        else:
            gone.append(garbage)
    return gone, problems
