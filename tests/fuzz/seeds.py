"""What fuzzing begins with: small examples of every format, good ones and hostile ones."""

import gzip
import io
import json
import struct
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from hostile.submissions import ARCHIVES, FOLDERS, METADATA, member, tarred
from PIL import Image
from support.tiny_image import config_of, docker_archive, oci_layout, tar_of

from advcomp.rules.images import encode_png
from advcomp.rules.unpack import unpack

ROOT = Path(__file__).parents[2]
MOST_BYTES = 24 << 10
"""Larger examples make fuzzing slow, and show little more."""


def pngs() -> Iterable[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    yield encode_png(pixels)
    for mode in ("RGB", "L", "P", "RGBA", "LA", "1"):
        file = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(file, "PNG", dpi=(72, 72))
        yield file.getvalue()
    yield interlaced(7, 5)


def interlaced(width: int, height: int) -> bytes:
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2))
    rows = b"".join(
        bytes([kind % 5]) + bytes(3 * len(range(column, width, column_step)))
        for kind, (row, column, row_step, column_step) in enumerate((*passes, (1, 0, 2, 1)))
        for _ in range(row, height, row_step)
        if len(range(column, width, column_step))
    )
    chunks = (
        (b"IHDR", struct.pack(">II5B", width, height, 8, 2, 0, 0, 1)),
        (b"tEXt", b"Comment\0x"),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )  # fmt: skip


def predictions() -> Iterable[bytes]:
    yield b"a.png,3\nb.png,4\n0001.jpg,10\nx y.png,999999\n"
    yield b'\xef\xbb\xbf"a.png", 3\r\n/out/b.png,4,5\n'
    yield b"a,1\na,2\nb,1\nb,1\n0001,x\nx y\n,,,\n"
    yield b'"a\n,1\nb,\xff\n\0,1\n"b""",2\r0001,0x1\n'
    yield b"a,-1\nb,1e3\n0001,\xd9\xa1\nx y,0000007\n"


def metadata_files() -> Iterable[bytes]:
    yield json.dumps(METADATA, indent=2).encode()
    yield json.dumps(METADATA | {"container_gpu": "x", "entrypoint": "y"}).encode()
    for case in FOLDERS:
        with tempfile.TemporaryDirectory() as folder:
            case.make(Path(folder) / "entry")
            file = Path(folder) / "entry" / "metadata.json"
            if file.is_file() and not file.is_symlink():
                yield file.read_bytes()


def metadata_answers() -> Iterable[bytes]:
    yield json.dumps({"metadata": METADATA, "notes": ["a note"], "problems": []}).encode()
    yield b'{"metadata": null, "problems": ["metadata.json: is missing"]}'


def scripts() -> Iterable[bytes]:
    yield b"#!/usr/bin/env python3\nprint()\n"
    yield b"\xef\xbb\xbf#!/bin/bash\r\nexit 1\r\n"
    yield b"import sys\n"
    yield b"\x7fELF\x02\x01\x01"


def archives() -> Iterable[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        for case in ARCHIVES:
            case.make(Path(folder) / case.name)
            yield (Path(folder) / case.name).read_bytes()
    plain = tarred((member("a/b"), b"1"), (member("c", tarfile.SYMTYPE, "a/b"), b""))
    with tempfile.TemporaryDirectory() as folder:
        for name in ("good.tar", "good.tar.gz"):
            plain(Path(folder) / name)
            yield (Path(folder) / name).read_bytes()
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
            long = member("f" * 60 + "/" + "g" * 60)
            if kind == tarfile.PAX_FORMAT:
                long.pax_headers = {"comment": "x", "GNU.sparse.major": "1", "path": "p"}
            archive.addfile(long)
        yield file.getvalue()


def records() -> Iterable[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        for number, archive in enumerate(small(archives())):
            path, out = Path(folder) / str(number), io.BytesIO()
            path.write_bytes(archive)
            unpack(path, out)
            yield out.getvalue()


def layers() -> Iterable[bytes]:
    yield tar_of({"a/one": b"1", "etc/passwd": b"root"})
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, kind, target in (
            ("etc", tarfile.DIRTYPE, ""),
            ("etc/.wh..wh..opq", tarfile.REGTYPE, ""),
            ("etc/.wh.shadow", tarfile.REGTYPE, ""),
            ("etc/group", tarfile.FIFOTYPE, ""),
            ("bin", tarfile.SYMTYPE, "usr/bin"),
            ("hard", tarfile.LNKTYPE, "etc/group"),
            ("null", tarfile.CHRTYPE, ""),
        ):
            tar.addfile(member(name, kind, target))
    yield file.getvalue()
    yield gzip.compress(file.getvalue(), mtime=0) + gzip.compress(b"x", mtime=0)
    yield b"\x28\xb5\x2f\xfd" + bytes(100)


def images() -> Iterable[bytes]:
    own = [trimmed(layer) for layer in (tar_of({"a/one": b"1"}), *list(layers())[:2])]
    for layout in (docker_archive, oci_layout):
        yield layout(config_of(own[:1]), own[:1])
        yield layout(config_of(own, WorkingDir="/x", Volumes={"/data": {}}), own)
        yield layout({"rootfs": None}, own[:1])


def image_configs() -> Iterable[bytes]:
    config = config_of([b"x"], WorkingDir="/x", Volumes={"/a/../..": {}}, User="0", Cmd=["x"])
    yield json.dumps(config).encode()
    yield b'{"architecture": "amd64", "os": "linux", "config": null, "rootfs": null}'
    yield json.dumps({"Architecture": "amd64", "Os": "linux", "Config": config["config"]}).encode()


def tournaments() -> Iterable[bytes]:
    for path in sorted((ROOT / "tournament").rglob("*.toml")):
        yield path.read_bytes()


def csvs_of_images() -> Iterable[bytes]:
    yield b"ImageId,TrueLabel,TargetClass\na,1,2\nb,3,4\n"
    yield b"\xef\xbb\xbfImageId,TrueLabel\r\na.png,1\r\n"
    yield b"ImageId;TrueLabel\na;1\n"
    yield b"ImageId,TrueLabel,TargetClass\na,0,\na,32767,-1\n,,\n"


def weights() -> Iterable[bytes]:
    header = json.dumps(
        {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "__metadata__": {"a": "b"}}
    ).encode()
    yield struct.pack("<Q", len(header)) + header + bytes(8)
    yield struct.pack("<Q", len(header)) + header
    yield struct.pack("<Q", 1 << 62) + header
    yield b"<!doctype html><html>"
    yield b"version https://git-lfs.github.com/spec/v1\n"
    yield b"\x80\x02}q\x00."
    file = io.BytesIO()
    import torch  # for this reader alone

    torch.save({"w": torch.zeros(2)}, file)
    yield file.getvalue()
    yield tar_of({"pickle": b"\x80\x02.", "tensors": b""})
    yield b"PK\x05\x06" + bytes(18)


SEEDS: dict[str, Callable[[], Iterable[bytes]]] = {
    "png": pngs,
    "predictions": predictions,
    "metadata": metadata_files,
    "metadata_answer": metadata_answers,
    "script": scripts,
    "archive": archives,
    "records": records,
    "image": images,
    "layer": layers,
    "image_config": image_configs,
    "tournament": tournaments,
    "images_csv": csvs_of_images,
    "weights": weights,
}


def small(examples: Iterable[bytes]) -> list[bytes]:
    """Those that are not too large, tars without the zeros that pad them to 10 KiB."""
    return [each for each in map(trimmed, examples) if len(each) <= MOST_BYTES]


def trimmed(data: bytes) -> bytes:
    """A tar that ends with its end mark; other bytes as they are."""
    if data[257:262] != b"ustar":
        return data
    blocks = -(-len(data.rstrip(b"\0")) // 512)
    return data[: 512 * (blocks + 2)]


def seeds(reader: str) -> list[bytes]:
    """What fuzzing of a reader begins with."""
    return small(SEEDS[reader]())
