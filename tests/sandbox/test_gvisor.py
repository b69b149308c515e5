"""gVisor without an engine; what its boxes keep is in the conformance suite."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from advcomp.errors import SandboxUnavailable
from advcomp.sandbox.box.traces import MARK
from advcomp.sandbox.doctor.checks import examine_machine
from advcomp.sandbox.engine.bundle import clear_abandoned
from advcomp.sandbox.limits.cgroups import owner_tag
from advcomp.sandbox.probe import open_backend

pytestmark = pytest.mark.gvisor


@pytest.fixture
def without_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require: Callable[[str], None]
) -> Path:
    """A PATH with gVisor and no engine."""
    require("gvisor")
    if os.geteuid() != 0:
        pytest.skip("without an engine gVisor is root's")
    for name in ("mount", "runsc", "sh", "unshare"):
        (tmp_path / name).symlink_to(shutil.which(name) or "absent")
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_the_doctor_says_that_no_images_are_used(without_engine: Path) -> None:
    found = next(check for check in examine_machine() if check.name == "gvisor")
    assert found.works
    assert "no engine: boxes show this machine's programs, no images" in found.reason


def test_an_engine_that_is_there_and_does_not_serve_is_not_passed_over(
    without_engine: Path,
) -> None:
    """Else the same entry would run in its image today and without one tomorrow."""
    (without_engine / "docker").write_text("#!/bin/sh\nexit 1\n")
    (without_engine / "docker").chmod(0o755)
    with pytest.raises(SandboxUnavailable, match="gvisor: docker info: 1"):
        open_backend("gvisor")


def test_a_gvisor_that_fails_is_quoted(without_engine: Path) -> None:
    (without_engine / "runsc").unlink()
    (without_engine / "runsc").write_text("#!/bin/sh\necho out of order >&2\nexit 1\n")
    (without_engine / "runsc").chmod(0o755)
    with pytest.raises(SandboxUnavailable, match=r"(?s)could not be started \(out of order\)"):
        open_backend("gvisor")


def test_bundles_of_dead_harnesses_go_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    dead = f"{owner_tag().split('-')[0]}-{gone.pid}-12345"
    owners = {
        "advcomp-bundle-dead": dead,
        "advcomp-bundle-living": owner_tag(),
        "advcomp-other": dead,
    }
    for name, owner in owners.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / MARK).write_text(owner)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    clear_abandoned()
    assert {path.name for path in tmp_path.iterdir()} == {"advcomp-bundle-living", "advcomp-other"}
