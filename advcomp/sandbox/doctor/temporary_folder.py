"""The folder that every run of an entry has its images copied to, and a disk that is slow at that.

ext4 gives an inode out again only some minutes after it was freed if it has no journal, and until
then passes over it whenever it gives one out (`recently_deleted` in Linux's ext4). A folder in
which thousands of files come and go, as images do, pays for it with every file.
"""

import os
from pathlib import Path

SLOW = (
    "{folder} is on ext4 without a journal: a file there may take thirty times as long, half a "
    "second a run of 1,000 images; remedy: TMPDIR=/dev/shm, or another folder on a tmpfs"
)


def slow_disk(folder: Path, proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> str | None:
    """What makes files slow to make in a folder, and what to do; None where nothing is known.

    Args:
        proc, sys: Where the kernel tells of its disks.
    """
    device = folder.stat().st_dev
    disk = sys / "dev" / "block" / f"{os.major(device)}:{os.minor(device)}"
    name = disk.resolve().name
    if not disk.exists() or not (proc / "fs" / "ext4" / name).is_dir():
        return None
    has_journal = any((proc / "fs" / "jbd2").glob(f"{name}-*"))
    return None if has_journal else SLOW.format(folder=folder)
