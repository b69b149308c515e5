"""What the doctor looks at on this machine, and on machines that lack something."""

import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from advcomp.errors import SandboxError
from advcomp.sandbox import probe
from advcomp.sandbox.base import Sandbox
from advcomp.sandbox.doctor.checks import Check, check_temporary_folder, examine_machine
from advcomp.terminal.doctor import as_lines, checks_json

BACKENDS = ["bubblewrap", "docker", "podman", "gvisor"]
NAMES = [*BACKENDS, "limits", "gpus", "temporary folder", "advisories"]


def program(folder: Path, name: str, said: str) -> None:
    """A program that says one thing and fails at everything else."""
    file = folder / name
    file.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && printf "%s\\n" "{said}" && exit\nexit 1\n'
    )
    file.chmod(0o755)


def test_a_machine_without_a_temporary_folder_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    check = check_temporary_folder()
    assert not check.works
    assert "No usable temporary directory found" in check.reason
    assert check.remedy is not None
    assert "TMPDIR" in check.remedy


@pytest.mark.slow
def test_every_sandbox_and_the_limits_are_looked_at() -> None:
    checks = {check.name: check for check in examine_machine()}
    assert list(checks) == NAMES
    assert all(check.works or check.reason for check in checks.values())


def test_the_doctor_never_fails_for_want_of_programs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    checks = {check.name: check for check in examine_machine()}
    assert not any(checks[name].works for name in BACKENDS)
    assert checks["bubblewrap"].remedy == "`sudo apt-get install bubblewrap`"
    assert {checks[name].version for name in BACKENDS} == {None}


def test_versions_with_known_ways_out_are_named_by_their_numbers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program(tmp_path, "podman", "podman version 6.1.0")
    program(tmp_path, "runc", "runc version 1.1.11")
    monkeypatch.setenv("PATH", f"{tmp_path}")
    podman = next(check for check in examine_machine() if check.name == "podman")
    assert podman.version == "podman 6.1.0, runc 1.1.11"
    told = "\n".join(podman.warnings)
    assert all(flaw in told for flaw in ("CVE-2026-94603", "CVE-2025-31133"))
    assert told.count("; remedy: install ") == len(podman.warnings)


def test_a_docker_whose_daemon_does_not_answer_is_told_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = "Cannot connect to the Docker daemon at unix:///nonexistent. Is it running?"
    (tmp_path / "docker").write_text(f'#!/bin/sh\necho "{said}" >&2\nexit 1\n')
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    docker = next(check for check in examine_machine() if check.name == "docker")
    assert "the Docker daemon does not answer" in docker.reason
    assert "sudo systemctl start docker" in (docker.remedy or "")


@pytest.mark.parametrize(("system", "name"), [("Darwin", "macOS"), ("Windows", "Windows")])
def test_other_systems_are_told_to_use_containers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, system: str, name: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(platform, "system", lambda: system)
    bubblewrap = examine_machine()[0]
    assert not bubblewrap.works
    assert f"on {name} submissions run in containers only" in bubblewrap.reason
    assert "virtual machine with Linux" in (bubblewrap.remedy or "")


CHECKS = [
    Check(name="bubblewrap", works=True, reason="limits: weak", version="bwrap 0.8.0"),
    Check(
        name="docker",
        works=False,
        reason="docker: not \x1b[31m there\nreally",
        remedy="one\ntwo",
        warnings=("runc 1.1.5 may have CVE-1",),
    ),
]


def test_people_get_lines_with_remedies_and_warnings() -> None:
    assert list(as_lines(CHECKS)) == [
        "ready: bubblewrap, weak limits (results are marked so)",
        "ok  bubblewrap: version bwrap 0.8.0, limits: weak",
        "NO  docker: not \\x1b[31m there",
        "    really",
        "    remedy: one",
        "    two",
        "    warning: runc 1.1.5 may have CVE-1",
    ]


def test_only_the_name_at_the_head_of_a_reason_is_left_out() -> None:
    gpus = Check(name="gpus", works=False, reason="gpus: none to lend: /nvidia/gpus: no GPU")
    assert list(as_lines([gpus]))[1:] == ["NO  gpus: none to lend: /nvidia/gpus: no GPU"]


def test_one_line_first_says_what_is_ready() -> None:
    def first(*names: str) -> str:
        return next(as_lines([Check(name=name, works=True, reason="fine") for name in names]))

    assert first("bubblewrap", "limits") == "ready: bubblewrap, full limits"
    assert first("bubblewrap", "docker", "limits") == "ready: bubblewrap, full limits; also docker"
    assert first("podman", "limits").startswith("ready with --sandbox podman only")
    assert first("limits", "gpus").startswith("not ready: no sandbox works here")


def test_a_flaw_of_a_shared_program_is_told_once() -> None:
    flaw = "runc 1.1.5 may have CVE-1"
    checks = [
        Check(name=name, works=True, reason="fine", warnings=(flaw,))
        for name in ("docker", "podman", "gvisor")
    ]
    told = [line for line in as_lines(checks) if "CVE-1" in line]
    assert told == [f"    warning (also of podman, gvisor): {flaw}"]


def test_an_engine_that_falls_silent_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers at first, and not any more when a container is to start."""

    def silent(_hidden: object) -> Sandbox:
        raise SandboxError("docker create: no answer within 60 s")

    def broken(_hidden: object) -> Sandbox:
        raise subprocess.TimeoutExpired("runsc", 60)

    backends = {"docker": silent, "gvisor": broken, "bubblewrap": probe.BACKENDS["bubblewrap"]}
    monkeypatch.setattr(probe, "BACKENDS", backends)
    checks = {check.name: check for check in examine_machine()}
    assert "docker create: no answer within 60 s" in checks["docker"].reason
    assert not checks["docker"].works
    assert "runsc" in checks["gvisor"].reason
    assert {"bubblewrap", "limits", "gpus", "advisories"} <= {*checks}


def test_programs_get_tables() -> None:
    table = json.loads(checks_json(CHECKS))[1]
    assert {*table} == {"name", "works", "version", "reason", "remedy", "warnings"}
    assert (table["works"], table["version"], table["remedy"]) == (False, None, "one\ntwo")


def test_the_command_exits_4_where_the_default_sandbox_fails(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "advcomp.cli", "doctor", "--format", "json"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert [check["name"] for check in json.loads(done.stdout)] == NAMES
