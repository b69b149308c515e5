"""`none`: the contract and what a watchdog can keep, without walls."""

import os
import signal
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from advcomp.errors import InvalidConfig, SandboxError
from advcomp.sandbox.backends.unwalled import Unwalled
from advcomp.sandbox.base import Limits, LimitTier, RunResult, RunSpec
from advcomp.sandbox.probe import BACKENDS, open_sandbox

MIB = 1 << 20


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Unwalled]:
    """Its folders are below `tmp_path`/boxes, which must be empty in the end."""
    boxes = tmp_path / "boxes"
    boxes.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(boxes))
    sandbox = Unwalled()
    yield sandbox
    sandbox.close()
    assert list(boxes.iterdir()) == []


def spec(*argv: str, **changes: Any) -> RunSpec:
    limits: dict[str, Any] = {"wall_s": 20, "memory_bytes": 512 * MIB, "output_bytes": MIB}
    fields = {k: changes.pop(k) for k in ("code", "inputs", "stdout_fd") if k in changes}
    return RunSpec(
        argv=argv, limits=Limits(**{**limits, **changes}), output="/output_images", **fields
    )


def result_of(plain: Unwalled, program: str, **changes: Any) -> RunResult:
    with plain.run(spec("python3", "-c", textwrap.dedent(program), **changes)) as run:
        return run.result


def test_it_is_refused_without_a_promise_and_never_chosen() -> None:
    with pytest.raises(InvalidConfig, match="--i-trust-these-submissions") as caught:
        open_sandbox("none")
    assert caught.value.exit_code == 1
    assert "none" not in BACKENDS
    chosen = open_sandbox("none", trusting=True)
    assert (chosen.name, chosen.limit_tier) == ("none", LimitTier.WEAK)


def test_an_entry_finds_the_contract(plain: Unwalled, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.png").write_bytes(b"pixels")
    entry = tmp_path / "entry"
    entry.mkdir()
    (entry / "run").write_text(
        '#!/bin/sh\ncp "$1"/*.png "$2"; echo "$3 ${PWD##*/} $HOME $TMPDIR"; rm run; exit 3\n'
    )
    (entry / "run").chmod(0o755)
    job = spec(
        *("./run", "/input_images", "/output_images", "16"),
        code=entry,
        inputs={"/input_images": images},
    )
    with plain.run(job) as run:
        assert run.output.names(10) == ("a.png",)
        assert run.output.read("a.png", 100) == b"pixels"
        assert run.result.exit_code == 3
        epsilon, folder, home, temporary = run.result.log.decode().split()
    assert (epsilon, folder, home) == ("16", "code", temporary)
    assert (entry / "run").exists()
    assert not Path(home).exists()
    assert "ran without a sandbox" in run.result.notes


def test_the_environment_is_the_contracts(
    plain: Unwalled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "value")
    result = result_of(plain, "import os; print(*sorted(os.environ))", cpus=1)
    names = set(result.log.decode().split()) - {"PWD", "LC_CTYPE", "SHLVL", "_"}  # of /bin/sh
    assert names == {
        *("PATH", "HOME", "TMPDIR", "LANG", "PYTHONUNBUFFERED"),
        *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
        "ADVCOMP_MEMORY_BYTES",
    }


FILL = 'for i in 1 2 3 4 5 6 7 8; do head -c 262144 /dev/zero > "{}/$i"; done; sleep 60'


@pytest.mark.parametrize(
    ("field", "program", "changes"),
    [
        ("timed_out", "sleep 60", {"wall_s": 0.5}),
        (
            "oom_killed",
            "python3 -c 'import time; x = bytes([1]) * (256 << 20); time.sleep(60)'; sleep 60",
            {},
        ),
        ("output_full", FILL.format("$0"), {}),
        ("disk_full", FILL.format("$TMPDIR"), {}),
    ],
)
def test_limits_are_watched(
    plain: Unwalled, field: str, program: str, changes: dict[str, Any]
) -> None:
    job = spec("sh", "-c", program, "/output_images", **{"memory_bytes": 64 * MIB, **changes})
    start = time.monotonic()
    with plain.run(job) as run:
        result = run.result
    fields = ("timed_out", "oom_killed", "output_full", "disk_full")
    assert {name for name in fields if getattr(result, name)} == {field}, result.log
    assert result.signal == signal.SIGKILL
    assert time.monotonic() - start < 30


def test_a_file_cannot_outgrow_all_limits_between_two_looks(plain: Unwalled) -> None:
    result = result_of(plain, "open('x', 'wb').truncate(1 << 30)", memory_bytes=64 * MIB)
    assert result.exit_code != 0


def test_daemons_die_with_the_program(plain: Unwalled) -> None:
    program = """
        import subprocess
        child = subprocess.Popen(["sleep", "613.5"], start_new_session=True)
        print(child.pid)
    """
    result = result_of(plain, program)
    assert result.exit_code == 0
    assert not Path(f"/proc/{int(result.log)}").exists() or b"613.5" not in (
        Path(f"/proc/{int(result.log)}/cmdline").read_bytes()
    )


def test_outputs_that_are_no_files_are_none(plain: Unwalled) -> None:
    program = "cd $0; mkfifo fifo; mkdir folder; ln -s /etc/passwd link; echo ok > file"
    with plain.run(spec("sh", "-c", program, "/output_images")) as run:
        names = ("fifo", "folder", "link", "../code", "none", "file")
        assert [run.output.read(name, 100) for name in names] == [None] * 5 + [b"ok\n"]
        assert run.output.read("file", 2) is None


def test_standard_output_can_be_taken_apart_and_the_log_is_capped(
    plain: Unwalled, tmp_path: Path
) -> None:
    with (tmp_path / "out").open("wb") as file:
        job = spec(
            *("sh", "-c", "head -c 2000000 /dev/zero; echo told >&2"),
            stdout_fd=file.fileno(),
        )
        with plain.run(job) as run:
            assert (run.result.output_full, run.result.log) == (True, b"told\n")
    assert (tmp_path / "out").stat().st_size == MIB
    with plain.run(spec("sh", "-c", "head -c 2000000 /dev/zero", log_bytes=1000)) as run:
        assert (len(run.result.log), run.result.log_dropped_bytes) == (1000, 1_999_000)


def test_closing_ends_what_runs(plain: Unwalled) -> None:
    caught: list[SandboxError] = []

    def run() -> None:
        try:
            plain.run(spec("sleep", "60"))
        except SandboxError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not plain._running:
        assert thread.is_alive()
    plain.close()
    thread.join(10)
    assert [str(error) for error in caught] == ["the sandbox was closed during the run"]


def test_what_cannot_start_says_so(plain: Unwalled) -> None:
    assert os.access("/bin/sh", os.X_OK)
    with plain.run(spec("./missing")) as run:
        assert run.result.exit_code == 127
        assert b"missing" in run.result.log
