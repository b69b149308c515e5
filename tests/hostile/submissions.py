"""Entries that break the contract before they run: archives, folders and metadata.json."""

import io
import json
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

METADATA = {"type": "attack", "container": "none", "entry_point": "run.sh"}
PROGRAM = b'#!/bin/sh\ncp "$1"/*.png "$2"\n'
Make = Callable[[Path], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An entry that must be REJECTED.

    Args:
        name: What it tries; its name, with an extension where it is an archive.
        make: Writes it at a path.
        problems: Regular expressions; each must be found in what is told about it.
    """

    name: str
    make: Make
    problems: tuple[str, ...]


def zipped(change: Callable[[zipfile.ZipFile], object]) -> Make:
    """A good submission as a zip, and something more."""

    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("metadata.json", json.dumps(METADATA))
            archive.writestr("run.sh", PROGRAM)
            change(archive)

    return make


def tarred(*members: tuple[tarfile.TarInfo, bytes]) -> Make:
    """A good submission as a tar, and something more."""

    def make(path: Path) -> None:
        good = [
            (tarfile.TarInfo("metadata.json"), json.dumps(METADATA).encode()),
            (tarfile.TarInfo("run.sh"), PROGRAM),
        ]
        with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
            for info, content in (*good, *members):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))

    return make


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def encrypted(path: Path) -> None:
    """A zip whose members say that they are encrypted."""
    zipped(lambda archive: archive.writestr("secret", b"x"))(path)
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = data.find(signature)
        while at >= 0:
            (flags,) = struct.unpack_from("<H", data, at + offset)
            struct.pack_into("<H", data, at + offset, flags | 1)
            at = data.find(signature, at + 1)
    path.write_bytes(data)


def many_members(archive: zipfile.ZipFile) -> None:
    for i in range(20_001):
        archive.writestr(f"files/{i}", b"")


def described(metadata: bytes, more: Mapping[str, str] | None = None) -> Make:
    """A folder with this metadata.json; `more` are links, name -> target."""

    def make(path: Path) -> None:
        path.mkdir(parents=True)
        (path / "run.sh").write_bytes(PROGRAM)
        (path / "folder").mkdir()
        (path / "metadata.json").write_bytes(metadata)
        for name, target in (more or {}).items():
            (path / name).symlink_to(target)

    return make


def metadata(**changes: object) -> bytes:
    return json.dumps(METADATA | changes).encode()


def fifo(path: Path) -> None:
    described(metadata())(path)
    os.mkfifo(path / "pipe")


def symlinked_zip(archive: zipfile.ZipFile) -> None:
    link = zipfile.ZipInfo("out")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    archive.writestr(link, "/etc")
    archive.writestr("out/passwd", b"root::0:0::/:/bin/sh\n")


ARCHIVES = [
    Refused(
        name="climbs.zip",
        make=zipped(lambda a: a.writestr("../../climbed", b"x")),
        problems=(r'"\.\./\.\./climbed": has a "\.\."',),
    ),
    Refused(
        name="absolute.tar",
        make=tarred((member("/tmp/climbed"), b"x")),
        problems=("is an absolute path",),
    ),
    Refused(
        name="through_a_link.tar.gz",
        make=tarred((member("out", tarfile.SYMTYPE, "/etc"), b""), (member("out/x"), b"x")),
        problems=('"out": is a file or link and a folder at once',),
    ),
    Refused(
        name="through_a_link.zip",
        make=zipped(symlinked_zip),
        problems=('"out": is a file or link and a folder at once',),
    ),
    Refused(
        name="hard_link_out.tar",
        make=tarred((member("shadow", tarfile.LNKTYPE, "../../etc/shadow"), b"")),
        problems=('"shadow": .* leads out of the submission',),
    ),
    Refused(
        name="devices.tar",
        make=tarred(
            (member("null", tarfile.CHRTYPE), b""), (member("pipe", tarfile.FIFOTYPE), b"")
        ),
        problems=('"null": is a device', '"pipe": is a device'),
    ),
    Refused(
        name="bomb.zip",
        make=zipped(lambda a: a.writestr("zeros", bytes(200 << 20))),
        problems=("expected at most .* bytes unpacked",),
    ),
    Refused(
        name="bomb.tar.gz",
        make=tarred((member("zeros"), bytes(200 << 20))),
        problems=("expected at most .* bytes unpacked",),
    ),
    Refused(
        name="link_bomb.tar.gz",
        make=tarred(
            (member("big"), bytes(30 << 20)),
            *((member(f"copy-{i}", tarfile.LNKTYPE, "big"), b"") for i in range(200)),
        ),
        problems=("expected at most .* bytes unpacked, a link counting like a copy",),
    ),
    Refused(
        name="link_bomb_of_folders.tar.gz",
        make=tarred(
            (member("a/big"), bytes(4 << 20)),
            *(
                (member(f"{outer}/{i}", tarfile.SYMTYPE, f"../{inner}"), b"")
                for outer, inner in ("ba", "cb", "dc")
                for i in range(4)
            ),
        ),
        problems=("expected at most .* bytes unpacked, a link counting like a copy",),
    ),
    Refused(
        name="20001_files.zip", make=zipped(many_members), problems=("at most 20,000 members",)
    ),
    Refused(
        name="twice.tar",
        make=tarred((member("x"), b"1"), (member("x"), b"2"), (member("X"), b"3")),
        problems=('"x": is there 2 times', "differs from .* only in case"),
    ),
    Refused(name="encrypted.zip", make=encrypted, problems=('"run.sh": is encrypted',)),
    Refused(
        name="no_archive.zip",
        make=lambda path: path.write_bytes(b"MZ" + bytes(5000)),
        problems=("expected a .zip, .tar or .tar.gz archive",),
    ),
    Refused(
        name="everything_at_once.tar",
        make=tarred(
            (member("../a"), b""), (member("/b"), b""), (member("c\x1b[2J"), b""),
            (member("d\\e"), b""),
        ),
        problems=('has a "\\.\\."', "is an absolute path", r'"c\\u001b\[2J"', r'"d\\\\e"'),
    ),
]  # fmt: skip

FOLDERS = [
    Refused(name="with_a_fifo", make=fifo, problems=('"pipe": is a device, FIFO or socket',)),
    Refused(
        name="with_links_out",
        make=described(metadata(), {"shadow": "/etc/shadow", "up": "../..", "loop": "loop"}),
        problems=('"shadow": .*leads out', '"up": .*leads out', '"loop": .*in circles'),
    ),
    Refused(
        name="entry_point_outside",
        make=described(metadata(entry_point="../../../bin/sh", type="atack", container=7)),
        problems=('"entry_point" must be', '"type" must be one of', '"container" must be'),
    ),
    Refused(
        name="entry_point_is_a_folder",
        make=described(metadata(entry_point="folder")),
        problems=("which is no file there",),
    ),
    Refused(
        name="entry_point_leads_nowhere",
        make=described(metadata(entry_point="dangling"), {"dangling": "nothing"}),
        problems=('"dangling": is a link to "nothing", which does not exist',),
    ),
    Refused(
        name="entry_point_is_an_option",
        make=described(metadata(entry_point="run.sh\x00--help")),
        problems=('"entry_point" must be',),
    ),
    Refused(
        name="nested",
        make=described(b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
        problems=("is nested too deeply",),
    ),
    Refused(
        name="nested_100000_deep",
        make=described(b"[" * 100_000 + b"]" * 100_000),
        problems=("must have at most 65,536 bytes",),
    ),
    Refused(
        name="metadata_of_5_mb",
        make=described(metadata(note="x" * (5 << 20))),
        problems=("must have at most 65,536 bytes",),
    ),
    Refused(
        name="metadata_in_latin_1",
        make=described(b'{"type": "\xe9"}'),
        problems=("must be UTF-8",),
    ),
    Refused(
        name="duplicate_keys",
        make=described(b'{"type": "attack", "type": "defense", "a": 1, "a": 2}'),
        problems=('has "type" twice', 'has "a" twice'),
    ),
    Refused(name="metadata_is_a_list", make=described(b"[]"), problems=("must be a JSON object",)),
    Refused(
        name="metadata_is_not_json",
        make=described(b"{'type': NaN\x1b[31m}"),
        problems=("must be JSON",),
    ),
]
