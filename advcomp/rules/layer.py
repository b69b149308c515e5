"""One layer of an image: a tar that an engine will unpack, read once and checked on the way."""

import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO

from advcomp.errors import InvalidSubmission
from advcomp.rules.paths import normal_path, parents, shown

MAX_LAYER_MEMBERS = 1_000_000

_CHUNK = 1 << 20
_WHITEOUT = ".wh."
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


class Budget:
    """What all layers of one image may come to together."""

    def __init__(self, max_bytes: int) -> None:
        self._limit = self._left = max_bytes

    def spend(self, size: int) -> None:
        """Take `size` bytes.

        Raises:
            InvalidSubmission: There are not so many left.
        """
        self._left -= size
        if self._left < 0:
            raise InvalidSubmission(
                f"expected an image of at most {self._limit:,} bytes unpacked; got more"
            )


def read_layer(
    layer: IO[bytes], write: Callable[[bytes], None], *, tars: Budget, files: Budget
) -> str:
    """Hand a layer on, uncompressed, and return its digest (`sha256:...`).

    Args:
        layer: A tar, or a gzipped one.
        write: Gets the tar, piece by piece.
        tars: For the bytes of the tar.
        files: For what its files claim to be: a sparse one takes little room in a tar.

    Raises:
        InvalidSubmission: It would unpack to too much, or holds what no engine may be given.
    """
    stream = _Reading(_uncompressed(layer), tars, write)
    symbolic_links: set[str] = set()
    with tarfile.open(fileobj=stream, mode="r|", bufsize=_CHUNK, encoding="utf-8") as tar:
        for number, member in enumerate(tar):
            if number >= MAX_LAYER_MEMBERS:
                raise InvalidSubmission(f"expected at most {MAX_LAYER_MEMBERS:,} files in a layer")
            files.spend(max(member.size, 0))
            fault = _fault(member, symbolic_links)
            if fault is not None:
                raise InvalidSubmission(f"a layer's {shown(member.name)}: {fault}")
            tar.members = []  # type: ignore[attr-defined]  # it would remember all of them
    while stream.read(_CHUNK):
        pass
    return stream.digest


class _Reading(io.RawIOBase):
    """Counts, digests and hands on all that is read through it."""

    def __init__(
        self, chunks: Iterator[bytes], budget: Budget, write: Callable[[bytes], None]
    ) -> None:
        super().__init__()
        self._chunks, self._budget, self._write = chunks, budget, write
        self._digest = hashlib.sha256()
        self._rest = b""

    @property
    def digest(self) -> str:
        """Of all that was read."""
        return f"sha256:{self._digest.hexdigest()}"

    def read(self, size: int = -1) -> bytes:
        """The next `size` bytes, fewer only at the end."""
        while len(self._rest) < size and (chunk := next(self._chunks, b"")):
            self._budget.spend(len(chunk))
            self._digest.update(chunk)
            self._write(chunk)
            self._rest += chunk
        content, self._rest = self._rest[:size], self._rest[size:]
        return content


def _uncompressed(layer: IO[bytes]) -> Iterator[bytes]:
    head = layer.read(_CHUNK)
    if head.startswith(_ZSTD):
        raise InvalidSubmission("a layer is compressed by zstd; expected none, or gzip")
    packed = iter(lambda: layer.read(_CHUNK), b"")
    if not head.startswith(_GZIP):
        yield head
        yield from packed
        return
    inflate = zlib.decompressobj(_GZIP_WINDOW)
    while head:
        if inflate.eof:
            head = inflate.unused_data + head
            inflate = zlib.decompressobj(_GZIP_WINDOW)
        yield inflate.decompress(head, _CHUNK)
        head = inflate.unconsumed_tail or next(packed, b"")
    if not inflate.eof:
        raise EOFError("a layer ends early")


def _fault(member: tarfile.TarInfo, symbolic_links: set[str]) -> str | None:
    """What no engine may be given, although engines are meant to refuse it themselves."""
    path = normal_path(member.name).lstrip("/")
    parts = path.split("/")
    if ".." in parts:
        return 'has a ".." in its path'
    if parts[-1].startswith(_WHITEOUT) and parts[-1][len(_WHITEOUT) :] in ("", ".", ".."):
        return "takes away a folder that is not its own"
    if symbolic_links.intersection(parents(path)):
        return "stands behind a symbolic link of its layer"
    if member.issym():
        symbolic_links.add(path)
    if member.islnk() and ".." in member.linkname.split("/"):
        return f"is a hard link to {shown(member.linkname)}, which leads out of the image"
    return None
