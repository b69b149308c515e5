"""The first process of containers, without any engine: in a pid namespace under our own hands."""

import contextlib
import hashlib
import importlib.metadata
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from advcomp.sandbox.box.entry_stream import bytes_in_tmpfs, entry_stream
from advcomp.sandbox.engine.attached import new_mark, order
from advcomp.sandbox.engine.hardening import FIRST_FOLDER, first_process
from advcomp.sandbox.limits.seccomp import filter_program

MARK = new_mark()
NAMESPACES = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc")


@contextlib.contextmanager
def started(
    *argv: str, cwd: Path, entry: Path | None = None, most_threads: int = 0
) -> "Iterator[subprocess.Popen[bytes]]":
    """The process, with its order and an entry; it kills whatever it may, hence the namespace."""
    with subprocess.Popen(
        [*NAMESPACES, str(first_process())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"VARIABLE": "of the image"},
    ) as process:
        assert process.stdin is not None
        text = order(
            argv,
            mark=MARK,
            merged=True,
            most_threads=most_threads,
            cwd=str(cwd),
            env={"PATH": "/usr/bin:/bin", "ONLY": "this"},
            scratch=(str(cwd),),
            seccomp=filter_program(),
        )
        process.stdin.write(b"".join([text, *entry_stream(entry)]))
        process.stdin.flush()
        yield process
        process.kill()


def message(process: "subprocess.Popen[bytes]") -> str:
    assert process.stderr is not None
    return process.stderr.readline().decode().removeprefix(MARK)


def carried_out(*argv: str, cwd: Path, **options: object) -> tuple[str, list[str]]:
    """What the program printed, and the messages about it."""
    with started(*argv, cwd=cwd, **options) as process:  # type: ignore[arg-type]
        assert process.stdin is not None
        messages = [message(process)]
        process.stdin.write(b"\0")
        process.stdin.flush()
        messages.append(message(process))
        printed, rest = process.communicate(timeout=60)
        assert rest == b""
    return printed.decode(), messages


def test_a_program_gets_its_environment_and_nothing_of_the_images(tmp_path: Path) -> None:
    printed, messages = carried_out("sh", "-c", "env; cat /proc/1/environ", cwd=tmp_path)
    lines = set(printed.strip("\0").splitlines())
    assert lines == {"PATH=/usr/bin:/bin", "ONLY=this", f"PWD={tmp_path}"}
    assert messages == ["ready 0\n", "exit 0 0\n"]


@pytest.mark.parametrize(
    ("program", "told"),
    [("exit 7", "exit 7 0\n"), ("exit 137", "exit 137 0\n"), ("kill -9 $$", "signal 9 0\n")],
)
def test_exit_codes_and_signals_are_told_apart(tmp_path: Path, program: str, told: str) -> None:
    assert carried_out("sh", "-c", program, cwd=tmp_path)[1] == ["ready 0\n", told]


def test_the_end_is_told_when_all_others_are_dead(tmp_path: Path) -> None:
    printed, _ = carried_out("sh", "-c", "(sleep 0.1; echo late) & exit 0", cwd=tmp_path)
    assert printed == ""


def test_too_many_threads_are_killed_where_the_kernel_does_not_limit_them(tmp_path: Path) -> None:
    program = "for i in 1 2 3 4 5 6 7 8 9; do sleep 60 & done; wait"
    _, messages = carried_out("sh", "-c", program, cwd=tmp_path, most_threads=5)
    word, seen, zero = messages[1].split()
    assert (word, zero) == ("excess", "0")
    # It looks from time to time, and may do so before all of them are there.
    assert 5 < int(seen) <= 11
    _, messages = carried_out("sh", "-c", "sleep 0.3", cwd=tmp_path, most_threads=5)
    assert messages[1] == "exit 0 0\n"


def test_it_ends_when_the_referee_does(tmp_path: Path) -> None:
    with started("sleep", "60", cwd=tmp_path) as process:
        assert process.stdin is not None
        message(process)
        process.stdin.write(b"\0")
        process.stdin.close()
        assert process.wait(10) == 1


def test_an_entry_is_unpacked_as_it_is(tmp_path: Path) -> None:
    entry, code = tmp_path / "entry", tmp_path / "code"
    (entry / "deep/er").mkdir(parents=True)
    code.mkdir()
    (entry / "run").write_text("#!/bin/sh\necho ran\n")
    (entry / "run").chmod(0o555)
    (entry / "empty").touch(mode=0o600)
    (entry / "deep/er/large").write_bytes(bytes(200_000) + b"end")
    (entry / "deep/second").hardlink_to(entry / "deep/er/large")
    (entry / "deep/link").symlink_to("../run")
    (entry / "dangling").symlink_to("/nonexistent")
    printed, _ = carried_out("./run", cwd=code, entry=entry)
    assert printed == "ran\n"

    def tree(root: Path) -> dict[str, object]:
        return {
            str(path.relative_to(root)): (
                path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes(),
                path.is_symlink() or stat.S_IMODE(path.lstat().st_mode) | 0o600,
                path.is_dir() or path.lstat().st_nlink,
            )
            for path in root.rglob("*")
        }

    assert tree(code) == tree(entry)
    assert bytes_in_tmpfs(entry) == 4096 * (1 + 1 + 49 + 49 + 2 + 2)


def test_what_cannot_be_unpacked_is_our_failure(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    entry = tmp_path / "entry"
    entry.mkdir()
    (entry / "x").touch()
    with started("true", cwd=tmp_path, entry=entry) as process:
        assert message(process) == "failed to make a file of the entry 17\n"


def test_source_flags_and_binaries_belong_together() -> None:
    """As they were when the binaries were made; the long set makes them anew."""
    told = (line.split() for line in (FIRST_FOLDER / "SHA256SUMS").read_text().splitlines())
    files = (file for file in FIRST_FOLDER.iterdir() if file.name != "SHA256SUMS")
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    assert found == {name: digest for digest, name in told}


@pytest.mark.long
@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_the_binary_is_what_its_source_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    """Byte for byte, with the compiler that the Makefile names, in another folder."""
    name = f"first-{architecture}"
    copy = shutil.copytree(FIRST_FOLDER, tmp_path / "first")
    pinned = re.search(r"ziglang==(\S+)", (copy / "Makefile").read_text())
    assert pinned is not None
    if (found := installed_version("ziglang")) != pinned[1]:
        pytest.skip(f"the compiler is ziglang {pinned[1]}; here is {found}")
    monkeypatch.setenv("ZIG_LOCAL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(tmp_path / "cache"))
    (copy / name).unlink()
    subprocess.run(
        ["make", "--quiet", name, f"PYTHON={sys.executable}"], cwd=copy, check=True, timeout=300
    )
    assert (copy / name).read_bytes() == (FIRST_FOLDER / name).read_bytes()


def installed_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
