"""Sandboxes by name: each is made ready, or says why it cannot work and what to do about it.

A backend is an entry in `BACKENDS`, or an entry point of another package: a function that makes it
ready or says why it cannot work.
"Works" means that a program was run in it, here, now.
"""

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

from advcomp import plugins
from advcomp.errors import AdvcompError, InvalidConfig, SandboxError, SandboxUnavailable
from advcomp.sandbox.backends.bubblewrap import Bubblewrap, bwrap_version
from advcomp.sandbox.backends.container import OWN_IMAGES, Containers
from advcomp.sandbox.backends.gvisor import Gvisor
from advcomp.sandbox.backends.unwalled import Unwalled
from advcomp.sandbox.base import UNWALLED, Limits, LimitTier, RunSpec, Sandbox
from advcomp.sandbox.box.readable import require_readable
from advcomp.sandbox.box.shown import host_view
from advcomp.sandbox.engine.client import ENGINES, GVISOR, Engine, open_engines
from advcomp.sandbox.engine.hardening import FIRST
from advcomp.sandbox.engine.image_supply import EngineImages
from advcomp.sandbox.limits.harness_limits import fit_for_boxes
from advcomp.sandbox.limits.tiers import choose
from advcomp.sandbox.obstacles import (
    explained,
    namespace_obstacle,
    subuid_obstacle,
    system_obstacle,
)

__all__ = ["BACKENDS", "DEFAULT", "OpenBackend", "backend_names", "open_backend", "open_sandbox"]

OpenBackend = Callable[[Sequence[Path]], Sandbox]
"""Makes a backend ready, with these folders hidden; or raises SandboxUnavailable."""

AUTO = "auto"
DEFAULT = "bubblewrap"
OLDEST_BUBBLEWRAP = (0, 8)
"""The first with --size and --disable-userns."""
WITHOUT = (
    "entries of your own, or others that you trust with all your rights, run without a sandbox: "
    "--sandbox none --i-trust-these-submissions"
)
TRIAL = Limits(wall_s=30, memory_bytes=512 << 20, output_bytes=1 << 20)


def open_sandbox(
    name: str = AUTO, *, hidden: Sequence[Path] = (), trusting: bool = False
) -> Sandbox:
    """Make a sandbox ready.

    Args:
        name: A backend; `auto`, which is bubblewrap; or `none`.
        hidden: Host folders that no submission may see although they lie in what is shown.
        trusting: The submissions are one's own: `none` may run them.

    Raises:
        InvalidConfig: `none`, but nobody promised to trust the submissions.
        SandboxUnavailable: It does not work here: why, the remedy, and what does work.
    """
    fit_for_boxes(1)
    if name == UNWALLED:
        return _open_unwalled(trusting=trusting)
    wanted = DEFAULT if name == AUTO else name
    try:
        return open_backend(wanted, hidden)
    except SandboxUnavailable as error:
        working = ", ".join(name for name in backend_names() if name != wanted and _works(name))
        ways = () if working else (WITHOUT,)
        raise SandboxUnavailable(
            *error.problems, *ways, f"sandboxes that work here: {working or 'none'}"
        ) from error


def open_backend(name: str, hidden: Sequence[Path] = ()) -> Sandbox:
    """Make one backend ready.

    Raises:
        SandboxUnavailable: It does not work here: why, and the remedy.
    """
    if name in BACKENDS:
        return _opened(BACKENDS[name], hidden)
    added = plugins.load(plugins.ExtensionGroup.SANDBOXES, name)
    if added is None:
        raise SandboxUnavailable(
            f"sandbox must be one of {', '.join([AUTO, *backend_names()])}; got {name}"
        )
    return _opened(cast(OpenBackend, added), hidden)


def _opened(opener: OpenBackend, hidden: Sequence[Path]) -> Sandbox:
    """What an opener makes; an engine that falls silent on the way is why it cannot work."""
    try:
        return opener(hidden)
    except SandboxUnavailable:
        raise
    except (SandboxError, OSError, subprocess.SubprocessError) as error:
        problems = error.problems if isinstance(error, SandboxError) else (str(error),)
        raise SandboxUnavailable(*explained(*problems)) from error


def backend_names() -> tuple[str, ...]:
    """Every backend: ours, then those that other packages add."""
    return *BACKENDS, *plugins.names(plugins.ExtensionGroup.SANDBOXES, BACKENDS)


def _open_unwalled(*, trusting: bool) -> Sandbox:
    if not trusting:
        raise InvalidConfig(
            "--sandbox none: expected --i-trust-these-submissions beside it, since submissions "
            "then run with all your rights: they can read, change and delete whatever you can; "
            "use it for your own entries only, or leave --sandbox out"
        )
    return Unwalled()


def _open_bubblewrap(hidden: Sequence[Path]) -> Sandbox:
    obstacle = system_obstacle(platform.system())
    if obstacle is not None:
        raise SandboxUnavailable(obstacle[0], f"remedy: {obstacle[1]}")
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxUnavailable(
            "bubblewrap: not installed", "remedy: `sudo apt-get install bubblewrap`"
        )
    version = bwrap_version(program)
    if tuple(map(int, version.split(".")[:2])) < OLDEST_BUBBLEWRAP:
        raise SandboxUnavailable(
            f"bubblewrap: expected version 0.8 or newer, got {version}",
            "remedy: `sudo apt-get install bubblewrap` on Debian 12 or Ubuntu 24.04, or newer",
        )
    _require_readable(hidden)
    sandbox = Bubblewrap(choose().keeper, hidden=hidden)
    try:
        _try_out(sandbox)
    except SandboxError as error:
        raise SandboxUnavailable(*_explained(error)) from error
    return sandbox


def _require_readable(hidden: Sequence[Path]) -> None:
    """Where boxes have a uid of their own, it must be able to read what they are shown.

    Raises:
        SandboxUnavailable: It is not; which folders, and the remedy.
    """
    if os.geteuid() == 0:
        require_readable(host_view(hidden))


def _try_out(sandbox: Sandbox) -> None:
    """Run a program that does nothing.

    Raises:
        SandboxError: It does not do it.
    """
    image = None if sandbox.images is None else sandbox.images.empty().id
    # An empty image has one program, which is ours, and ends so where it gets no order.
    program, code = ("true", 0) if image is None else (FIRST, 1)
    spec = RunSpec(argv=(program,), limits=TRIAL, image=image, output="/output_images")
    with sandbox.run(spec) as run:
        if run.result.exit_code != code:
            said = run.result.log.decode(errors="backslashreplace")
            raise SandboxError(f"`{program}` does not run in the box: {run.result.notes} {said}")


def _explained(error: SandboxError) -> tuple[str, ...]:
    """Why a box cannot be made, and the remedy where it is known."""
    problems = tuple(f"bubblewrap: {problem}" for problem in error.problems)
    obstacle = namespace_obstacle()
    if obstacle is None:
        return problems
    return (*problems, f"bubblewrap: {obstacle[0]}", f"remedy: {obstacle[1]}")


def _open_containers(name: str, hidden: Sequence[Path]) -> Sandbox:
    """A backend with images, on the first engine that can serve it."""
    problems: list[str] = []
    for engine in open_engines(name):
        try:
            return _open_with(engine, name, hidden)
        except SandboxError as error:  # one that falls silent must not hide the other
            problems += error.problems
    raise SandboxUnavailable(*problems)


def _open_with(engine: Engine, name: str, hidden: Sequence[Path]) -> Sandbox:
    """A backend with images on one engine; our own programs run in bubblewrap where they can."""
    if os.geteuid() != 0 and engine.is_gvisor:
        raise SandboxUnavailable(
            f"{name}: only root can hold the output folders of its containers",
            "remedy: run advcomp as root, or choose docker or podman",
        )
    there = map(EngineImages(engine).find, OWN_IMAGES)
    images = [image.id for image in there if image is not None]
    try:
        own: Sandbox | str = _open_bubblewrap(hidden)
    except SandboxUnavailable as error:
        if not images:
            raise SandboxUnavailable(
                f"{name}: bubblewrap does not work here, and {engine.name} has no image with "
                f"advcomp in it ({' or '.join(OWN_IMAGES)}): images are decoded in one of them",
                "remedy: in a checkout of advcomp: `docker/build.sh referee`",
            ) from error
        own = images[0]
    sandbox = Containers(name, engine, own=own)
    try:
        _try_out(sandbox)
    except AdvcompError as error:
        sandbox.close()
        where = name if name == engine.name else f"{name} on {engine.name}"
        raise SandboxUnavailable(*_why_not(where, engine, error.problems)) from error
    return sandbox


def _why_not(where: str, engine: Engine, problems: Sequence[str]) -> tuple[str, ...]:
    """Why no container starts, and the remedy where it is known."""
    said = explained(*(f"{where}: {problem}" for problem in problems))
    obstacle = subuid_obstacle() if engine.is_rootless and len(said) == len(problems) else None
    return said if obstacle is None else (*said, obstacle[0], f"remedy: {obstacle[1]}")


def _open_gvisor(hidden: Sequence[Path]) -> Sandbox:
    """gVisor on an engine, with images; by itself only where no engine is installed."""
    program = shutil.which(GVISOR)
    if program is None or any(map(shutil.which, ENGINES)):
        return _open_containers("gvisor", hidden)
    if os.geteuid() != 0:
        raise SandboxUnavailable(
            "gvisor: without an engine it needs root",
            "remedy: run advcomp as root, or `sudo apt-get install podman`",
        )
    choice = choose()
    if choice.keeper.tier is LimitTier.WEAK:
        raise SandboxUnavailable(
            "gvisor: without an engine it needs control groups",
            *(f"{tier}: {why}" for tier, why in choice.why_not_better.items()),
        )
    _require_readable(hidden)
    sandbox = Gvisor(program, choice.keeper, hidden=hidden)
    try:
        _try_out(sandbox)
    except SandboxError as error:
        raise SandboxUnavailable(*(f"gvisor: {problem}" for problem in error.problems)) from error
    return sandbox


BACKENDS: Mapping[str, OpenBackend] = {
    "bubblewrap": _open_bubblewrap,
    **{name: partial(_open_containers, name) for name in ENGINES},
    "gvisor": _open_gvisor,
}
"""Name -> makes it ready, or raises SandboxUnavailable with the reason and the remedy."""


def _works(name: str) -> bool:
    try:
        open_backend(name).close()
    except SandboxUnavailable:
        return False
    return True
