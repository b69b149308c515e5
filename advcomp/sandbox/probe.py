"""What works on this machine, why the rest does not, and what to do about it.

A backend is an entry in `BACKENDS`: a function that makes it ready or says why it cannot work.
"Works" means that a program was run in it, here, now.
"""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from advcomp.errors import SandboxError, SandboxUnavailable
from advcomp.sandbox.base import Limits, LimitTier, RunSpec, Sandbox
from advcomp.sandbox.bubblewrap import Bubblewrap, version_of
from advcomp.sandbox.tiers import choose

__all__ = ["BACKENDS", "Check", "check_machine", "open_sandbox"]

AUTO = "auto"
DEFAULT = "bubblewrap"
OLDEST_BUBBLEWRAP = (0, 8)
"""The first with --size and --disable-userns."""
NOT_YET = ("docker", "podman", "gvisor")
APPARMOR_REMEDY = r"""allow it for bubblewrap alone:
  printf 'abi <abi/4.0>,\ninclude <tunables/global>\n\nprofile bwrap /usr/bin/bwrap \
flags=(unconfined) {\n  userns,\n  include if exists <local/bwrap>\n}\n' \
| sudo tee /etc/apparmor.d/bwrap && sudo apparmor_parser -r /etc/apparmor.d/bwrap
or for every program: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"""
TRIAL = Limits(wall_s=30, memory_bytes=512 << 20, output_bytes=1 << 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at: does it work, what was found, what to do if it does not."""

    name: str
    works: bool
    detail: str
    remedy: str | None = None


def open_sandbox(name: str = AUTO, *, hidden: Sequence[Path] = ()) -> Sandbox:
    """Make a sandbox ready.

    Args:
        name: A backend, or `auto`, which is bubblewrap.
        hidden: Host folders that no submission may see although they lie in what is shown.

    Raises:
        SandboxUnavailable: It does not work here: why, the remedy, and what does work.
    """
    wanted = DEFAULT if name == AUTO else name
    try:
        return _opener(wanted)(hidden)
    except SandboxUnavailable as error:
        working = [check.name for check in _check_backends() if check.works]
        raise SandboxUnavailable(
            *error.problems, f"sandboxes that work here: {', '.join(working) or 'none'}"
        ) from error


def check_machine() -> list[Check]:
    """Everything that `advcomp doctor` tells about sandboxes and their limits."""
    return [*_check_backends(), _check_limits()]


def userns_obstacle(settings: Path) -> tuple[str, str] | None:
    """Why an ordinary user can make no user namespace here, and the remedy.

    Args:
        settings: /proc/sys.
    """
    obstacles = {
        "kernel/unprivileged_userns_clone": (
            "0",
            "this kernel keeps user namespaces from ordinary users",
            "sudo sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        "user/max_user_namespaces": (
            "0",
            "this machine allows no user namespaces",
            "sudo sysctl -w user.max_user_namespaces=15000",
        ),
        "kernel/apparmor_restrict_unprivileged_userns": (
            "1",
            "AppArmor keeps user namespaces from programs without a profile",
            APPARMOR_REMEDY,
        ),
    }
    for setting, (bad, reason, remedy) in obstacles.items():
        file = settings / setting
        if file.exists() and file.read_text().strip() == bad:
            return f"{reason} ({setting.replace('/', '.')} = {bad})", remedy
    return None


def _open_bubblewrap(hidden: Sequence[Path]) -> Sandbox:
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxUnavailable(
            "bubblewrap: not installed", "remedy: sudo apt-get install bubblewrap"
        )
    version = version_of(program)
    if tuple(map(int, version.split(".")[:2])) < OLDEST_BUBBLEWRAP:
        raise SandboxUnavailable(
            f"bubblewrap: expected version 0.8 or newer, got {version}",
            "remedy: sudo apt-get install bubblewrap on Debian 12 or Ubuntu 24.04, or newer",
        )
    sandbox = Bubblewrap(choose().keeper, hidden=hidden)
    try:
        _try_out(sandbox)
    except SandboxError as error:
        raise SandboxUnavailable(*_explained(error)) from error
    return sandbox


def _try_out(sandbox: Sandbox) -> None:
    """Run a program that does nothing.

    Raises:
        SandboxError: It does not do it.
    """
    with sandbox.run(RunSpec(argv=("true",), limits=TRIAL)) as run:
        if run.result.exit_code != 0:
            said = run.result.log.decode(errors="backslashreplace")
            raise SandboxError(f"`true` does not run in the box: {run.result.notes} {said}")


def _explained(error: SandboxError) -> tuple[str, ...]:
    """Why a box cannot be made, and the remedy where it is known."""
    problems = tuple(f"bubblewrap: {problem}" for problem in error.problems)
    if os.geteuid() == 0:
        return (
            *problems,
            "remedy: this root may not make namespaces; if it is a container's, start that with "
            "--cap-add SYS_ADMIN and without its seccomp and AppArmor profiles, "
            "or run advcomp as an ordinary user on the host",
        )
    obstacle = userns_obstacle(Path("/proc/sys"))
    if obstacle is None:
        return problems
    return (*problems, f"bubblewrap: {obstacle[0]}", f"remedy: {obstacle[1]}")


BACKENDS: Mapping[str, Callable[[Sequence[Path]], Sandbox]] = {"bubblewrap": _open_bubblewrap}
"""Name -> makes it ready, or raises SandboxUnavailable with the reason and the remedy."""


def _opener(name: str) -> Callable[[Sequence[Path]], Sandbox]:
    if name in BACKENDS:
        return BACKENDS[name]
    known = ", ".join([AUTO, *BACKENDS])
    if name in NOT_YET:
        raise SandboxUnavailable(f"{name}: not supported by this version; use one of {known}")
    raise SandboxUnavailable(f"sandbox must be one of {known}; got {name}")


def _check_backends() -> list[Check]:
    return [_check_backend(name) for name in (*BACKENDS, *NOT_YET)]


def _check_backend(name: str) -> Check:
    try:
        sandbox = _opener(name)(())
    except SandboxUnavailable as error:
        remedies = [p.removeprefix("remedy: ") for p in error.problems if p.startswith("remedy: ")]
        reasons = [p for p in error.problems if not p.startswith("remedy: ")]
        remedy = "\n".join(remedies) or None
        return Check(name=name, works=False, detail="\n".join(reasons), remedy=remedy)
    detail = f"version {sandbox.versions[name]}, limits: {sandbox.limit_tier}"
    sandbox.close()
    return Check(name=name, works=True, detail=detail)


def _check_limits() -> Check:
    """The tier of limits that is used; good enough for official results unless it is weak."""
    choice = choose()
    if choice.keeper.tier is not LimitTier.WEAK:
        detail = f"{choice.keeper.tier}: the kernel limits memory, processes and CPU"
        return Check(name="limits", works=True, detail=detail)
    reasons = "\n".join(f"{tier}: {why}" for tier, why in choice.why_not_better.items())
    return Check(
        name="limits",
        works=False,
        detail="weak: resource limits and a watchdog only; results are marked `limits: weak`",
        remedy=f"run in a systemd session with cgroup v2, or as root; what is missing:\n{reasons}",
    )
