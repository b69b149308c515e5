"""No file that a command is told of makes it wait for ever."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from advcomp.cli import main as advcomp
from advcomp.rules.plain_file import open_plain_file, read_plain_file, read_plain_text


def fifo(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make", "kind"), [(fifo, "FIFO"), (listening, "socket"), (endless, "device")]
)
def test_what_could_be_waited_for_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], kind: str
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    path = Path("file")
    make(path)
    # A writer of the FIFO, so that a plain open() would not wait here either.
    held = os.open(path, os.O_RDWR) if kind == "FIFO" else None
    try:
        with pytest.raises(OSError, match=f"expected a file on a disk; got a {kind}") as caught:
            open_plain_file(path)
    finally:
        if held is not None:
            os.close(held)
    assert caught.value.filename == "file"


def test_a_file_is_read_through_links_and_a_folder_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbfone\r\ntwo\n")
    (tmp_path / "link").symlink_to("file")
    assert read_plain_file(tmp_path / "link") == b"\xef\xbb\xbfone\r\ntwo\n"
    assert read_plain_text(tmp_path / "link") == "one\ntwo\n"
    with pytest.raises(IsADirectoryError):
        read_plain_file(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_plain_file(tmp_path / "gone")


TOURNAMENT = """
name = "small"
[dataset]
source = "folder"
images_dir = "images"
csv = "images.csv"
[threat]
max_epsilons = [8]
[entries]
attacks = ["attack"]
"""
CLUSTER_WITH_TLS = """
kind = "scheduler"
address = "tls://127.0.0.1:9"
tls = { ca = "device", cert = "device", key = "device" }
"""


@pytest.mark.parametrize(
    "command",
    [
        ("run", "device"),
        ("plan", "device"),
        ("tune", "device"),
        ("plan", "whole.toml"),
        ("plan", "whole.toml", "--cluster", "device"),
        ("plan", "whole.toml", "--cluster", "tls.toml"),
        ("status", "broken"),
    ],
    ids=" ".join,
)
def test_every_command_refuses_a_device_in_place_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """An empty one, so that whoever reads it does not wait."""
    monkeypatch.chdir(tmp_path)
    for name in ("device", "images.csv"):
        Path(name).symlink_to("/dev/null")
    for name in ("images", "attack", "broken"):
        Path(name).mkdir()
    Path("broken/run.json").symlink_to("/dev/null")
    Path("whole.toml").write_text(TOURNAMENT)
    Path("tls.toml").write_text(CLUSTER_WITH_TLS)
    done = CliRunner().invoke(advcomp, command)
    assert done.exit_code in (1, 3), done.output
    assert "; got a device" in done.output
