"""Why a sandbox does not work here, in words that help, and what to do about it.

Commands of a remedy stand in backticks and work as they are typed.
"""

import os
import pwd
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "explained",
    "namespace_obstacle",
    "rootless_obstacle",
    "subuid_obstacle",
    "system_obstacle",
    "userns_obstacle",
]

APPARMOR_REMEDY = (
    "allow it for bubblewrap alone: `"
    r"printf 'abi <abi/4.0>,\ninclude <tunables/global>\n\nprofile bwrap /usr/bin/bwrap "
    r"flags=(unconfined) {\n  userns,\n  include if exists <local/bwrap>\n}\n' "
    "| sudo tee /etc/apparmor.d/bwrap && sudo apparmor_parser -r /etc/apparmor.d/bwrap`\n"
    "or for every program: `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`"
)
CONTAINER_REMEDY = (
    "this root may not make namespaces; if it is a container's, start that with "
    "--cap-add SYS_ADMIN and without its seccomp and AppArmor profiles, "
    "or run advcomp as an ordinary user on the host"
)
SUBUID_REMEDY = (
    "`sudo apt-get install uidmap && sudo usermod --add-subuids 100000-165535 "
    '--add-subgids 100000-165535 "$USER" && podman system migrate`'
)


SUBUID = Path("/etc/subuid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Saying:
    """What an engine says when something is missing, what it means, and the remedy."""

    pattern: str
    reason: str
    remedy: str


SAYINGS = (
    Saying(
        pattern=r"permission denied while trying to connect to the docker (daemon|api)",
        reason="this user may not talk to the Docker daemon",
        remedy='`sudo usermod -aG docker "$USER"`, then log in again (members of that group can '
        "do all that root can), or use --sandbox podman",
    ),
    Saying(
        pattern=r"cannot connect to the docker daemon|failed to connect to the docker api",
        reason="the Docker daemon does not answer",
        remedy="`sudo systemctl start docker`; without systemd: `sudo dockerd &` "
        "(DOCKER_HOST, where it is set, must name its socket)",
    ),
    Saying(
        pattern=r"cannot connect to podman",
        reason="the virtual machine of podman does not answer",
        remedy="`podman machine init; podman machine start`",
    ),
    Saying(
        pattern=r"crun: cgroups in hybrid mode not supported|crun.*cgroup.?v1",
        reason="crun refuses cgroup v1",
        remedy="`sudo apt-get install runc`, which advcomp takes where there is no cgroup v2; or "
        "start Linux with systemd.unified_cgroup_hierarchy=1",
    ),
    Saying(
        pattern=r"rlimit_(nofile|nproc)`?: operation not permitted",
        reason="the container may not have more open files or processes than this machine allows",
        remedy="`sudo prlimit --pid $$ --nofile=1048576:1048576`, or set default_ulimits in "
        "/etc/containers/containers.conf",
    ),
    Saying(
        pattern=r"no subuid ranges found|/etc/sub[ug]id|newuidmap|newgidmap",
        reason="this user has no subordinate uids, which rootless containers need",
        remedy=SUBUID_REMEDY,
    ),
    Saying(
        pattern=r"the box does not let us hold it",
        reason="this user cannot look into the engine's containers, or they are in another "
        "machine (Docker Desktop, DOCKER_HOST)",
        remedy="take an engine of this machine: rootless podman as this user, or docker as root "
        "or as a member of its group, without userns-remap",
    ),
    Saying(
        pattern=r"unknown or invalid runtime name: runsc",
        reason="gVisor's runsc is not registered with Docker",
        remedy="`sudo runsc install -- --network=none && sudo systemctl restart docker`",
    ),
)


def explained(*problems: str) -> tuple[str, ...]:
    """Problems that an engine told, with what they mean and the remedy where that is known."""
    said = "\n".join(problems).lower()
    for saying in SAYINGS:
        if re.search(saying.pattern, said):
            return (*problems, saying.reason, f"remedy: {saying.remedy}")
    return problems


def subuid_obstacle() -> tuple[str, str] | None:
    """Why this user's rootless containers will miss uids, and the remedy."""
    uid = os.geteuid()
    names = [user.pw_name for user in pwd.getpwall() if user.pw_uid == uid]
    return rootless_obstacle(uid, names, SUBUID.read_text() if SUBUID.exists() else "")


def rootless_obstacle(uid: int, names: Collection[str], subuid: str) -> tuple[str, str] | None:
    """Why a user's rootless containers will miss uids, and the remedy.

    Args:
        uid: Of the user.
        names: Of the user.
        subuid: Content of /etc/subuid.
    """
    owners = {line.partition(":")[0] for line in subuid.splitlines()}
    if uid == 0 or owners & {*names, str(uid)}:
        return None
    user = next(iter(names), f"uid {uid}")
    return f"/etc/subuid gives {user} no subordinate uids", SUBUID_REMEDY


def system_obstacle(system: str) -> tuple[str, str] | None:
    """Why this operating system has containers only, and the remedy.

    Args:
        system: As `platform.system` says: Linux, Darwin, Windows, ...
    """
    if system == "Linux":
        return None
    name = {"Darwin": "macOS"}.get(system, system)
    return (
        f"bubblewrap needs Linux; on {name} submissions run in containers only",
        "run advcomp in a virtual machine with Linux (Lima, WSL 2), where every sandbox works; "
        f"--sandbox podman with an engine on {name} itself was never tried, and Docker Desktop is "
        "not supported; for your own entries alone there is --sandbox none",
    )


def userns_obstacle(settings: Path) -> tuple[str, str] | None:
    """Why an ordinary user can make no user namespace here, and the remedy.

    Args:
        settings: /proc/sys.
    """
    obstacles = {
        "kernel/unprivileged_userns_clone": (
            "0",
            "this kernel keeps user namespaces from ordinary users",
            "`sudo sysctl -w kernel.unprivileged_userns_clone=1`",
        ),
        "user/max_user_namespaces": (
            "0",
            "this machine allows no user namespaces",
            "`sudo sysctl -w user.max_user_namespaces=15000`",
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


def namespace_obstacle() -> tuple[str, str] | None:
    """Why bubblewrap gets no namespaces here, and the remedy."""
    if os.geteuid() == 0:
        return "root may make no namespaces here", CONTAINER_REMEDY
    return userns_obstacle(Path("/proc/sys"))
