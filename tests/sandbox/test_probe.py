"""What the probe says where something does not work, and that closing ends everything."""

import threading
from pathlib import Path

import pytest

from advcomp.errors import AdvcompError, SandboxError, SandboxUnavailable
from advcomp.sandbox.base import Limits, RunSpec, Sandbox
from advcomp.sandbox.probe import open_sandbox
from advcomp.sandbox.trusted import run_module


@pytest.mark.parametrize("name", ["docker", "podman", "gvisor", "chroot"])
def test_a_sandbox_that_does_not_work_says_why_and_what_does(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailable, match=name) as caught:
        open_sandbox(name)
    assert caught.value.exit_code == 4
    assert caught.value.problems[-1].startswith("sandboxes that work here:")


def test_without_bubblewrap_the_command_to_install_it_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailable, match="sudo apt-get install bubblewrap") as caught:
        open_sandbox()
    *_, way, last = caught.value.problems
    assert "your own" in way
    assert "--sandbox none --i-trust-these-submissions" in way
    assert last == "sandboxes that work here: none"


def test_an_old_bubblewrap_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho bubblewrap 0.6.1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailable, match=r"0\.8 or newer, got 0\.6\.1"):
        open_sandbox("bubblewrap")


def test_a_bubblewrap_that_fails_is_quoted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "bwrap"
    program.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && { echo bubblewrap 0.9.0; exit; }\n'
        "echo 'bwrap: Creating new namespace failed: Operation not permitted' >&2; exit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailable, match="Creating new namespace failed"):
        open_sandbox("bubblewrap")


def test_closing_ends_what_runs(sandbox: Sandbox) -> None:
    ending = open_sandbox("bubblewrap")
    caught: list[SandboxError] = []

    def run() -> None:
        spec = RunSpec(argv=("sleep", "60"), limits=Limits(wall_s=60, memory_bytes=1 << 28))
        try:
            ending.run(spec)
        except SandboxError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not ending._running:  # type: ignore[attr-defined]
        assert thread.is_alive()
    ending.close()
    thread.join(20)
    assert ["closed" in str(error) for error in caught] == [True]


def test_what_cannot_work_is_refused_before_it_runs(sandbox: Sandbox, tmp_path: Path) -> None:
    limits = Limits(wall_s=1, memory_bytes=1 << 28)
    inputs = {"/input_images": tmp_path / "none", "/more": tmp_path / "nothing"}
    with pytest.raises(SandboxError) as caught:
        sandbox.run(RunSpec(argv=("true",), limits=limits, inputs=inputs))
    assert len(caught.value.problems) == 2


def test_a_descriptor_that_takes_nothing_is_a_failure_of_ours(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    limits = Limits(wall_s=10, memory_bytes=1 << 28)
    with (tmp_path / "file").open("rb") as read_only:
        spec = RunSpec(argv=("echo", "x"), limits=limits, stdout_fd=read_only.fileno())
        with pytest.raises(SandboxError, match="Bad file descriptor"):
            sandbox.run(spec)


def test_a_hidden_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="expected a folder to hide"):
        open_sandbox("bubblewrap", hidden=[tmp_path / "none"])


def test_what_results_depend_on_is_told_in_order(sandbox: Sandbox) -> None:
    versions = sandbox.versions
    assert list(versions) == sorted(versions)
    assert {"advcomp", "bubblewrap", "numpy", "python"} <= set(versions)


def test_shown_folders_are_real_and_readable(sandbox: Sandbox) -> None:
    assert all(folder.is_dir() and folder == folder.resolve() for folder in sandbox.shown)
    assert Path("/usr") in sandbox.shown


def test_our_own_programs_tell_what_they_printed_and_why_they_failed() -> None:
    assert run_module("json.tool", "--help").startswith("usage:")
    with pytest.raises(AdvcompError, match="No module named no_such_module"):
        run_module("no_such_module")
