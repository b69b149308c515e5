"""Files that somebody named."""

from pathlib import Path

from advcomp.rules.durable import write_named_file


def test_folders_on_the_way_are_made_and_links_are_followed(tmp_path: Path) -> None:
    write_named_file(tmp_path / "a" / "b" / "file", b"one")
    (tmp_path / "link").symlink_to("c/file")
    write_named_file(tmp_path / "link", b"two")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"one"
    assert (tmp_path / "c" / "file").read_bytes() == b"two"
    assert (tmp_path / "link").is_symlink()
