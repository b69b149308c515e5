"""Right checksums for wrong bytes: a mutant that stops at a checksum tries nothing behind it."""

import hashlib
import io
import json
import struct
import tarfile
import zlib
from itertools import islice

from support.tiny_image import docker_archive

BLOCK = 512
MOST_MEMBERS = 100
CHECKSUM = slice(148, 156)
SIZE = slice(124, 136)
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def as_it_is(data: bytes) -> bytes:
    """The same bytes."""
    return data


def mend_png(data: bytes) -> bytes:
    """With right checksums behind all chunks that are whole."""
    mended = bytearray(data)
    mended[: len(SIGNATURE)] = SIGNATURE
    at = len(SIGNATURE)
    while at + 12 <= len(mended):
        end = at + 8 + int.from_bytes(mended[at : at + 4])
        if end + 4 > len(mended):
            break
        mended[end : end + 4] = struct.pack(">I", zlib.crc32(mended[at + 4 : end]))
        at = end + 4
    return bytes(mended)


def mend_tar(data: bytes) -> bytes:
    """With right checksums in all headers that the sizes lead to; other files stay as they are."""
    if data[:2] in (b"PK", b"\x1f\x8b"):
        return data
    mended = bytearray(data)
    at = 0
    while at + BLOCK <= len(mended):
        header = mended[at : at + BLOCK]
        if any(header):
            header[CHECKSUM] = b" " * 8
            mended[at + CHECKSUM.start : at + CHECKSUM.stop] = b"%06o\0 " % sum(header)
        try:
            size = int(bytes(header[SIZE]).strip(b" \0") or b"0", 8)
        except ValueError:
            size = 0
        at += BLOCK + -(-max(size, 0) // BLOCK) * BLOCK
    return bytes(mended)


def mend_image(data: bytes) -> bytes:
    """An image archive whose configuration has the digests of the layers that it holds."""
    data = mend_tar(data)
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            files = {}
            for info in islice(tar, MOST_MEMBERS):  # one of negative size is followed by itself
                content = tar.extractfile(info)
                files[info.name] = content.read() if content else b""
        (image,) = json.loads(files["manifest.json"])
        config = json.loads(files[image["Config"]])
        layers = [mend_tar(files[path]) for path in image["Layers"]]
        config["rootfs"]["diff_ids"] = [
            f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers
        ]
        return docker_archive(config, layers)
    except Exception:  # whatever the mutant is, it is no image that could be mended
        return data
