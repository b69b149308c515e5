"""Disks as the kernel tells of them, under which a folder of images is slow or is not."""

import os
from pathlib import Path

import pytest

from advcomp.sandbox.doctor.temporary_folder import slow_disk


def kernel(root: Path, folder: Path, files: list[str]) -> tuple[Path, Path]:
    """/proc and /sys of a machine whose `xda1` holds a folder."""
    device = folder.stat().st_dev
    disk = root / "sys" / "devices" / "xda1"
    disk.mkdir(parents=True)
    link = root / "sys" / "dev" / "block" / f"{os.major(device)}:{os.minor(device)}"
    link.parent.mkdir(parents=True)
    link.symlink_to(disk)
    for file in files:
        (root / "proc" / "fs" / file).mkdir(parents=True)
    return root / "proc", root / "sys"


def test_ext4_without_a_journal_is_told_with_the_remedy(tmp_path: Path) -> None:
    proc, sys = kernel(tmp_path, tmp_path, ["ext4/xda1", "ext4/xda11", "jbd2/xda11-8"])
    told = slow_disk(tmp_path, proc, sys)
    assert told is not None
    assert f"{tmp_path} is on ext4 without a journal" in told
    assert "remedy: TMPDIR=/dev/shm" in told


@pytest.mark.parametrize("files", [["ext4/xda1", "jbd2/xda1-8"], ["xfs/xda1"], ["ext4/xda2"], []])
def test_other_disks_are_not(tmp_path: Path, files: list[str]) -> None:
    proc, sys = kernel(tmp_path, tmp_path, files)
    assert slow_disk(tmp_path, proc, sys) is None


def test_neither_is_a_folder_that_is_on_no_disk(tmp_path: Path) -> None:
    (tmp_path / "fs" / "ext4").mkdir(parents=True)
    assert slow_disk(tmp_path, tmp_path, tmp_path) is None
