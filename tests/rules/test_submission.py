"""Names, overlays and exec bits of the referee's copies."""

from pathlib import Path

import pytest

from advcomp.errors import InvalidConfig, InvalidSubmission
from advcomp.rules.submission import default_name, heal, is_archive, lay_over


@pytest.mark.parametrize(
    ("path", "name"),
    [("attacks/fgsm", "fgsm"), ("x/fgsm.zip", "fgsm"), ("fgsm.tar", "fgsm"), ("a.tar.gz", "a"),
     ("v1.2_b-c", "v1.2_b-c"), ("fgsm.zip.zip", "fgsm.zip"), ("fgsm.gz", "fgsm.gz"),
     ("fgsm.tgz", "fgsm.tgz"), ("0", "0"), ("x" * 64, "x" * 64)],
)  # fmt: skip
def test_name_is_the_base_name_without_archive_extension(path: str, name: str) -> None:
    assert default_name(Path(path)) == name


def test_only_folders_and_archives_are_submissions(tmp_path: Path) -> None:
    for name in ("a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.py", "a.tar.xz", "a.tar.bz2",
                 "a.tar.lz4", "a.ZIP", "a.Tar.GZ"):  # fmt: skip
        (tmp_path / name).touch()
    (tmp_path / "folder.zip").mkdir()
    assert not is_archive(tmp_path)
    assert not is_archive(tmp_path / "folder.zip")
    assert all(is_archive(tmp_path / name) for name in ("a.zip", "a.tar", "a.tar.gz"))
    for name, got in (
        ("a.tgz", r"a \.tgz; unpack it, and pack its folder as \.tar\.gz"),
        ("a.tar.xz", r"a \.tar\.xz; unpack it"),
        ("a.tar.bz2", r"a \.tar\.bz2; unpack it"),
        ("a.tar.lz4", r"a \.tar\.lz4; unpack it"),
        ("a.ZIP", r"a file named a\.ZIP; rename it to a\.zip"),
        ("a.Tar.GZ", r"a file named a\.Tar\.GZ; rename it to a\.tar\.gz"),
        ("a.py", r"a file named a\.py"),
        ("b", "nothing"),
    ):
        with pytest.raises(InvalidSubmission, match=rf"must be a folder, \.zip.*got {got}"):
            is_archive(tmp_path / name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "copy/sub").mkdir(parents=True)
    (tmp_path / "copy/run.sh").write_bytes(b"#!/bin/sh")
    (tmp_path / "copy/sub/data").write_bytes(b"theirs")
    (tmp_path / "weights").write_bytes(b"weights")
    return tmp_path / "copy"


def test_files_are_laid_over_the_copy(folder: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    lay_over(folder, {"w": weights, "sub/data": weights, "new/deep/w": weights, "./x": weights})
    for inside in ("w", "sub/data", "new/deep/w", "x"):
        assert (folder / inside).read_bytes() == b"weights"
        assert (folder / inside).stat().st_mode & 0o777 == 0o644
    weights.chmod(0o755)
    lay_over(folder, {"w": weights})
    assert (folder / "w").stat().st_mode & 0o777 == 0o755


def test_every_overlay_that_cannot_be_is_told_before_anything_is_written(
    folder: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights"
    with pytest.raises(InvalidConfig) as caught:
        lay_over(
            folder,
            {
                "../out": weights, "/etc/out": weights, "": weights, "no": tmp_path / "no",
                "dir": tmp_path, "sub": weights, "good": weights,
                "twice": weights, "./twice": weights, "a": weights, "a/b": weights,
            },
        )  # fmt: skip
    told = [problem.split('"')[3] for problem in caught.value.problems]
    assert told == ["../out", "/etc/out", "", "no", "dir", "twice", "twice", "a"]
    assert sorted(path.name for path in folder.rglob("*")) == ["data", "run.sh", "sub"]


def test_a_submission_without_room_for_an_overlay_is_the_one_at_fault(
    folder: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights"
    with pytest.raises(InvalidSubmission) as caught:
        lay_over(folder, {"sub": weights, "run.sh/x": weights, "good": weights})
    assert [problem.split('"')[3] for problem in caught.value.problems] == ["sub", "run.sh/x"]
    assert sorted(path.name for path in folder.rglob("*")) == ["data", "run.sh", "sub"]


def test_programs_get_their_exec_bits_back_and_data_does_not(folder: Path) -> None:
    (folder / "tool").write_bytes(b"\x7fELF...")
    (folder / "entry").write_bytes(b"no shebang")
    (folder / "done.sh").write_bytes(b"#!/bin/sh")
    (folder / "done.sh").chmod(0o755)
    (folder / "empty").touch()
    notes = heal(folder, "entry")
    assert [note.split('"')[1] for note in notes] == ["entry", "run.sh", "tool"]
    modes = {p.name: p.stat().st_mode & 0o777 for p in folder.rglob("*") if p.is_file()}
    executable = {name: mode for name, mode in modes.items() if mode & 0o111}
    assert executable == dict.fromkeys(("entry", "run.sh", "tool", "done.sh"), 0o755)
    assert heal(folder, "entry") == ()
