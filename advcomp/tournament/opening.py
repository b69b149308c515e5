"""What a run needs open before anything is planned: its folder, a sandbox, container images."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from advcomp.errors import RunConflict
from advcomp.sandbox.base import Sandbox
from advcomp.sandbox.probe import open_sandbox
from advcomp.tournament.config import Tournament, difference
from advcomp.tournament.entry.containers import ImageChooser
from advcomp.tournament.exposure import labelled_folders
from advcomp.tournament.machine import cores
from advcomp.tournament.store.state import FILE_NAME, load_state


def folder_of(tournament: Tournament, out: Path | None) -> Path:
    """Where a tournament's run is kept."""
    return (out or Path("runs") / tournament.name).resolve()


def refuse_another(run: Path, identity: dict[str, object]) -> None:
    """Refuse a run folder that was made with other settings.

    Raises:
        RunConflict: All that differs.
    """
    if not (run / FILE_NAME).exists():
        return
    changes = difference(load_state(run).identity, identity)
    if changes:
        raise RunConflict(
            f"{run}: this run was made with other settings; change them back, or choose another "
            "folder with --out",
            *(f"  {change}" for change in changes),
        )


def default_jobs(tournament: Tournament) -> int:
    """Sandboxes at once: as many as the limits' cpus go into the machine's."""
    return max(1, int(cores() // tournament.limits.cpus))


@contextmanager
def opened_sandbox(
    tournament: Tournament, backend: str | None, *, trusting: bool = False
) -> Iterator[Sandbox]:
    """The sandbox that a tournament runs in."""
    name = backend or tournament.sandbox.backend
    sandbox = open_sandbox(name, hidden=labelled_folders(), trusting=trusting)
    try:
        yield sandbox
    finally:
        sandbox.close()


def containers_of(
    tournament: Tournament, sandbox: Sandbox, *, any_local: bool = False
) -> ImageChooser | None:
    """What chooses the entries' images; None where the sandbox uses none.

    Raises:
        InvalidConfig: An image of the tournament file is not here.
    """
    if sandbox.images is None:
        return None
    containers = ImageChooser(tournament, sandbox, sandbox.images, any_local=any_local)
    containers.refuse_absent()
    return containers
