"""Archives of copies: the same bytes whenever and wherever they are written."""

import os
import zipfile
from pathlib import Path

from advcomp.rules.folders import digest_folder, pack_folder


def test_an_archive_holds_paths_modes_and_contents_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    (folder / "inner").mkdir(parents=True)
    (folder / "run.sh").write_text("#!/bin/sh")
    (folder / "run.sh").chmod(0o755)
    (folder / "inner" / "data").write_text("1")
    os.utime(folder / "inner" / "data", (1e9, 1e9))
    (tmp_path / "image").write_bytes(b"2")
    pack_folder(folder, tmp_path / "packed.zip", {"image.tar": tmp_path / "image"})
    with zipfile.ZipFile(tmp_path / "packed.zip") as packed:
        told = [(each.filename, each.external_attr >> 16 & 0o777) for each in packed.infolist()]
        times = {each.date_time for each in packed.infolist()}
        assert packed.read("inner/data") + packed.read("image.tar") == b"12"
    assert told == [
        ("inner/", 0o755),
        ("inner/data", 0o644),
        ("run.sh", 0o755),
        ("image.tar", 0o644),
    ]
    assert times == {(1980, 1, 1, 0, 0, 0)}, "the first that a zip can say"


def test_a_digest_is_of_paths_modes_and_contents(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("1")
    before = digest_folder(tmp_path)
    os.utime(tmp_path / "file", (1e9, 1e9))
    assert digest_folder(tmp_path) == before
    (tmp_path / "file").chmod(0o755)
    assert digest_folder(tmp_path) != before
