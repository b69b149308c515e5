"""What `advcomp doctor` looks at: sandboxes, known ways out of them, limits, GPUs, the disk."""

import datetime
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from advcomp.errors import SandboxUnavailable
from advcomp.sandbox.base import LimitTier
from advcomp.sandbox.doctor.advisories import age_warning, changelog_of, snapshot, warnings
from advcomp.sandbox.doctor.temporary_folder import slow_disk
from advcomp.sandbox.limits.gpus import Gpus, parse_cdi
from advcomp.sandbox.limits.tiers import choose
from advcomp.sandbox.probe import backend_names, open_backend

__all__ = ["LIMITS", "Check", "check_temporary_folder", "examine_machine"]

LIMITS = "limits"
"""The check of how strictly limits are kept."""

COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "bubblewrap": ("bwrap",),
    "docker": ("docker", "runc"),
    "podman": ("podman", "crun", "runc"),
    "gvisor": ("runsc", "podman"),
}
"""Programs that a sandbox's walls depend on."""
QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "docker": ("version", "--format", "{{.Server.Version}}"),
    "nvidia-ctk": ("cdi", "list"),
}
"""What a program is asked, if not its version."""
CDI_REMEDY = "`sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`"
ANSWER_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at.

    Args:
        name: A sandbox, `limits`, `gpus`, `temporary folder` or `advisories`.
        works: Whether it can be used here.
        version: Of the programs that it is made of; None where none of them is installed.
        reason: What was found: how it works, or why it does not.
        remedy: What to do, where it does not work and that is known.
        warnings: What its user should know although it works.
    """

    name: str
    works: bool
    reason: str
    version: str | None = None
    remedy: str | None = None
    warnings: tuple[str, ...] = ()


def examine_machine() -> list[Check]:
    """Look at everything."""
    return [
        *map(_check_backend, backend_names()),
        _check_limits(),
        _check_gpus(),
        check_temporary_folder(),
        _check_advisories(),
    ]


def _check_backend(name: str) -> Check:
    said = {
        program: _asked(program) for program in COMPONENTS.get(name, ()) if shutil.which(program)
    }
    version = ", ".join(f"{p} {_number(text)}" for p, text in said.items() if text)
    known = [
        warning
        for program, text in said.items()
        if text
        for warning in warnings(program, text, changelog_of(program))
    ]
    works, reason, remedy = _tried(name)
    return Check(
        name=name,
        works=works,
        reason=reason,
        version=version or None,
        remedy=remedy,
        warnings=tuple(known),
    )


def _tried(name: str) -> tuple[bool, str, str | None]:
    """Whether a backend works, how or why not, and the remedy."""
    try:
        sandbox = open_backend(name)
    except SandboxUnavailable as error:
        remedies = [p.removeprefix("remedy: ") for p in error.problems if p.startswith("remedy: ")]
        reasons = [p for p in error.problems if not p.startswith("remedy: ")]
        return False, "\n".join(reasons), "\n".join(remedies) or None
    sandbox.close()
    alone = name == "gvisor" and sandbox.images is None
    how = "; no engine: boxes show this machine's programs, no images" if alone else ""
    return True, f"limits: {sandbox.limit_tier}{how}", None


def _asked(program: str) -> str:
    """What a program says of itself; nothing if it does not answer."""
    command = [program, *QUESTIONS.get(program, ("--version",))]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _number(said: str) -> str:
    """The version alone, out of "bubblewrap 0.8.0" and the like."""
    return said.strip().splitlines()[0].split()[-1]


def _check_limits() -> Check:
    """The tier of limits that is used; good enough for official results unless it is weak."""
    choice = choose()
    if choice.keeper.tier is not LimitTier.WEAK:
        reason = f"{choice.keeper.tier}: the kernel limits memory, processes and CPU"
        return Check(name=LIMITS, works=True, reason=reason)
    reasons = "\n".join(f"{tier}: {why}" for tier, why in choice.why_not_better.items())
    return Check(
        name=LIMITS,
        works=False,
        reason="weak: resource limits and a watchdog only; results are marked `limits: weak`",
        remedy=f"run in a systemd session with cgroup v2, or as root; what is missing:\n{reasons}",
    )


def _check_gpus() -> Check:
    """Whether boxes can be lent GPUs; a machine without any lacks nothing, unless asked for."""
    gpus = Gpus()
    obstacle = gpus.obstacle(1)
    if obstacle is not None:
        remedy = "install NVIDIA's driver, and advcomp[gpu]" if gpus.found() else None
        return Check(name="gpus", works=False, reason=f"none to lend: {obstacle}", remedy=remedy)
    lent = ", ".join(f"{gpu.model} ({gpu.uuid})" for gpu in gpus.found())
    by_cdi = parse_cdi(_asked("nvidia-ctk"))
    missing = [gpu.uuid for gpu in gpus.found() if gpu.uuid not in by_cdi]
    return Check(
        name="gpus",
        works=True,
        reason=lent,
        warnings=tuple(f"podman is not lent {uuid}: {CDI_REMEDY}" for uuid in missing),
    )


def check_temporary_folder() -> Check:
    """Whether images are copied quickly to where runs of entries have them."""
    name = "temporary folder"
    try:
        folder = Path(tempfile.gettempdir())
        warning = slow_disk(folder)
    except OSError as error:
        remedy = "let TMPDIR name a folder that exists, may be written and has room"
        return Check(name=name, works=False, reason=str(error), remedy=remedy)
    return Check(
        name=name,
        works=True,
        reason=f"{folder}; TMPDIR names another",
        warnings=() if warning is None else (warning,),
    )


def _check_advisories() -> Check:
    """Whether the table of known flaws is young enough to be believed."""
    warning = age_warning(datetime.datetime.now(tz=datetime.UTC).date())
    return Check(
        name="advisories",
        works=warning is None,
        reason=warning or f"flaws known on {snapshot().date}",
    )
