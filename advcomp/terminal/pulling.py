"""`advcomp pull`: fetch the images of a tournament file, before anything runs."""

from collections.abc import Sequence
from pathlib import Path

from advcomp.errors import AdvcompError, SandboxError
from advcomp.sandbox.base import ContainerImages
from advcomp.tournament.config import Backend, load_tournament
from advcomp.tournament.entry.containers import listed
from advcomp.tournament.opening import opened_sandbox

ENGINES = (Backend.DOCKER, Backend.PODMAN, Backend.GVISOR)


def pull_in_terminal(file: Path, backend: str | None) -> None:
    """Fetch every image that a tournament file lets entries use and that is not here yet.

    Raises:
        AdvcompError: The file is wrong, or the engine does not answer; or all images that cannot
            be fetched.
    """
    tournament = load_tournament(file)
    chosen = backend or tournament.sandbox.backend
    names = listed(tournament.sandbox)
    if chosen not in ENGINES:
        _tell_unused(chosen, names)
        return
    with opened_sandbox(tournament, chosen) as sandbox:
        if sandbox.images is None:
            _tell_unused(f"{chosen} without an engine", names)
            return
        problems = [problem for name in names for problem in _fetch(sandbox.images, name)]
    if problems:
        raise AdvcompError(*problems)
    if not names:
        print(f"{file}: lists no images in [sandbox] images and image_map")


def _tell_unused(sandbox: str, names: Sequence[str]) -> None:
    print(f"the sandbox {sandbox} uses no images; with --sandbox docker, podman or gvisor:")
    print("\n".join(f"  {name}" for name in names) or "  the file lists none either")


def _fetch(images: ContainerImages, name: str) -> tuple[str, ...]:
    """Fetch one image and say which it is; returns why it cannot be had."""
    try:
        image = images.find(name)
        how = "is here" if image is not None else "fetched"
        image = image or images.pull(name)
    except SandboxError as error:
        return tuple(f"{name}: {problem}" for problem in error.problems)
    print(f"{name}: {how}: {image.id}", flush=True)
    return ()
