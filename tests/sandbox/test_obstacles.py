"""What engines and the system say when something is missing, as recorded, and the remedies."""

import re
import subprocess
from pathlib import Path

import pytest

from advcomp.sandbox.doctor.checks import CDI_REMEDY
from advcomp.sandbox.engine.client import REMEDIES
from advcomp.sandbox.limits.tiers import DELEGATION
from advcomp.sandbox.obstacles import (
    APPARMOR_REMEDY,
    SAYINGS,
    SUBUID_REMEDY,
    explained,
    rootless_obstacle,
    system_obstacle,
    userns_obstacle,
)


def settings(folder: Path, **values: str) -> Path:
    for name, value in values.items():
        file = folder / name.replace("__", "/")
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"{value}\n")
    return folder


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        ("kernel__unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        ("user__max_user_namespaces", "0", "sysctl -w user.max_user_namespaces="),
        ("kernel__apparmor_restrict_unprivileged_userns", "1", "profile bwrap /usr/bin/bwrap"),
    ],
)
def test_what_forbids_user_namespaces_is_told_with_its_remedy(
    tmp_path: Path, setting: str, value: str, remedy: str
) -> None:
    found = userns_obstacle(settings(tmp_path, **{setting: value}))
    assert found is not None
    assert setting.replace("__", ".") in found[0]
    assert remedy in found[1]


def test_a_machine_that_allows_user_namespaces_has_no_obstacle(tmp_path: Path) -> None:
    allowed = settings(
        tmp_path,
        kernel__unprivileged_userns_clone="1",
        user__max_user_namespaces="96365",
        kernel__apparmor_restrict_unprivileged_userns="0",
    )
    assert userns_obstacle(allowed) is None


@pytest.mark.parametrize(
    ("said", "reason", "remedy"),
    [
        (
            "permission denied while trying to connect to the Docker daemon socket at "
            "unix:///var/run/docker.sock: dial unix /var/run/docker.sock: connect: permission "
            "denied",
            "this user may not talk to the Docker daemon",
            "usermod -aG docker",
        ),
        (
            "Got permission denied while trying to connect to the Docker daemon socket at "
            "unix:///var/run/docker.sock",
            "this user may not talk to the Docker daemon",
            "usermod -aG docker",
        ),
        (
            "Cannot connect to the Docker daemon at unix:///nonexistent. Is the docker daemon "
            "running?",
            "the Docker daemon does not answer",
            "systemctl start docker",
        ),
        (
            "Error: OCI runtime error: crun: cgroups in hybrid mode not supported, drop all "
            "controllers from cgroupv2",
            "crun refuses cgroup v1",
            "apt-get install runc",
        ),
        (
            "Error: crun: setrlimit `RLIMIT_NPROC`: Operation not permitted: OCI permission "
            "denied",
            "more open files or processes",
            "default_ulimits",
        ),
        (
            'Error: cannot find UID/GID for user ann: no subuid ranges found for user "ann" in '
            "/etc/subuid - check rootless mode in man pages.",
            "no subordinate uids",
            "--add-subuids",
        ),
        (
            'command required for rootless mode with multiple IDs: exec: "newuidmap": executable '
            "file not found in $PATH",
            "no subordinate uids",
            "apt-get install uidmap",
        ),
        (
            "/output_images: the box does not let us hold it: [Errno 13] Permission denied",
            "or they are in another machine",
            "rootless podman",
        ),
        (
            "docker: Error response from daemon: unknown or invalid runtime name: runsc.",
            "not registered",
            "runsc install",
        ),
    ],
)
def test_what_an_engine_says_is_explained(said: str, reason: str, remedy: str) -> None:
    problems = explained(said)
    assert problems[0] == said
    assert reason in problems[1]
    assert problems[2].startswith("remedy: ")
    assert remedy in problems[2]


def test_what_is_not_known_stays_as_it_was_said() -> None:
    assert explained("docker info: exec format error") == ("docker info: exec format error",)


def test_a_user_without_subordinate_uids_is_told() -> None:
    subuid = "root:100000:65536\nann:165536:65536\n1234:231072:65536\n"
    assert rootless_obstacle(0, ["root"], "") is None
    assert rootless_obstacle(1000, ["ann"], subuid) is None
    assert rootless_obstacle(1234, [], subuid) is None
    found = rootless_obstacle(1001, ["bob"], subuid)
    assert found is not None
    assert found[0] == "/etc/subuid gives bob no subordinate uids"
    assert "--add-subuids" in found[1]


@pytest.mark.parametrize(("system", "name"), [("Darwin", "macOS"), ("Windows", "Windows")])
def test_other_systems_have_containers_only(system: str, name: str) -> None:
    found = system_obstacle(system)
    assert found is not None
    assert f"on {name} submissions run in containers only" in found[0]
    assert "virtual machine with Linux" in found[1]
    assert system_obstacle("Linux") is None


REMEDIES_WITH_COMMANDS = (
    APPARMOR_REMEDY,
    SUBUID_REMEDY,
    DELEGATION,
    CDI_REMEDY,
    *REMEDIES.values(),
    *(saying.remedy for saying in SAYINGS if saying.reason.find("hold it") < 0),
)
COMMAND = re.compile(r"`([^`]+)`")


def test_what_stands_in_backticks_can_be_typed() -> None:
    commands = [command for text in REMEDIES_WITH_COMMANDS for command in COMMAND.findall(text)]
    assert len(commands) > 12
    for command in commands:
        assert "\n" not in command
        subprocess.run(["bash", "-n", "-c", command], check=True)
    for text in REMEDIES_WITH_COMMANDS:
        outside = COMMAND.sub("", text)
        assert outside.count("`") == 0
        assert not re.search(r"\b(sudo|apt-get|podman machine)\b", outside), outside


def test_the_profile_that_is_to_be_typed_is_one_that_apparmor_reads() -> None:
    command = COMMAND.findall(APPARMOR_REMEDY)[0].split(" | ")[0]
    written = subprocess.run(["bash", "-c", command], check=True, capture_output=True, text=True)
    assert written.stdout == (
        "abi <abi/4.0>,\ninclude <tunables/global>\n\n"
        "profile bwrap /usr/bin/bwrap flags=(unconfined) {\n"
        "  userns,\n  include if exists <local/bwrap>\n}\n"
    )
