"""One layer of an image: a tar that an engine will unpack, read once and checked on the way."""

import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO

from advcomp.errors import InvalidSubmission
from advcomp.rules.opened_files import WHITEOUT, FileKinds
from advcomp.rules.paths import normal_path, parents, shown
from advcomp.rules.unpack import bounded_headers

MAX_IMAGE_MEMBERS = 1_000_000
"""Files of all layers together."""
MAX_PATH_BYTES = 4096
"""PATH_MAX of Linux."""

_CHUNK = 1 << 20
_LONG_HEADERS_BYTES = 64 << 20
"""Of one layer; what programs note of a file takes some hundred bytes."""
_KERNELS_OWN = ("SCHILY.xattr.trusted.", "SCHILY.xattr.user.overlay.")
"""By these a layer would tell the overlay file system what it is to show."""
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS


class Budget:
    """What all layers of one image may come to together."""

    def __init__(self, limit: int, what: str = "bytes unpacked") -> None:
        self._limit = self._left = limit
        self._what = what

    def spend(self, size: int) -> None:
        """Take `size` of it.

        Raises:
            InvalidSubmission: There is not so much left.
        """
        self._left -= size
        if self._left < 0:
            raise InvalidSubmission(
                f"expected an image of at most {self._limit:,} {self._what}; got more"
            )


class ImageChecks:
    """What is kept while the layers of one image are read, lowest first.

    Args:
        max_bytes: What they may unpack to: their tars, and again what their files claim to be.
    """

    def __init__(self, max_bytes: int) -> None:
        self.tars, self.files = Budget(max_bytes), Budget(max_bytes)
        self.members = Budget(MAX_IMAGE_MEMBERS, "files")
        self.kinds = FileKinds()


def read_layer(layer: IO[bytes], write: Callable[[bytes], None], checks: ImageChecks) -> str:
    """Hand a layer on, uncompressed, and return its digest (`sha256:...`).

    Args:
        layer: A tar, or a gzipped one.
        write: Gets the tar, piece by piece.
        checks: Those of its image.

    Raises:
        InvalidSubmission: It would unpack to too much, or holds what no engine may be given.
    """
    stream = _Reading(_uncompressed(layer), checks.tars, write)
    symbolic_links: set[str] = set()
    with tarfile.open(
        fileobj=stream,
        mode="r|",
        bufsize=_CHUNK,
        encoding="utf-8",
        tarinfo=bounded_headers(_LONG_HEADERS_BYTES),
    ) as tar:
        for member in tar:
            checks.members.spend(1)
            checks.files.spend(max(member.size, 0))  # a sparse file takes little room in a tar
            path = normal_path(member.name).lstrip("/")
            fault = _fault(member, path, symbolic_links)
            if fault is not None:
                raise InvalidSubmission(f"a layer's {shown(member.name)}: {fault}")
            checks.kinds.add(member, path)
            tar.members = []  # type: ignore[attr-defined]  # it would remember all of them
    while stream.read(_CHUNK):
        pass
    checks.kinds.end_layer()
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
            inflate = zlib.decompressobj(_GZIP_WINDOW)
        yield inflate.decompress(head, _CHUNK)
        head = inflate.unconsumed_tail or inflate.unused_data or next(packed, b"")
    if not inflate.eof:
        raise EOFError("a layer ends early")


def _fault(member: tarfile.TarInfo, path: str, symbolic_links: set[str]) -> str | None:
    """What no engine may be given, although engines are meant to refuse it themselves."""
    parts = path.split("/")
    if len(path.encode(errors="surrogateescape")) > MAX_PATH_BYTES:
        return f"has a path of more than {MAX_PATH_BYTES:,} bytes"
    if ".." in parts:
        return 'has a ".." in its path'
    if parts[-1].startswith(WHITEOUT) and parts[-1][len(WHITEOUT) :] in ("", ".", ".."):
        return "takes away a folder that is not its own"
    if symbolic_links.intersection(parents(path)):
        return "stands behind a symbolic link of its layer"
    if member.issym():
        symbolic_links.add(path)
    if member.islnk():
        target = normal_path(member.linkname).lstrip("/")
        if ".." in target.split("/"):
            return f"is a hard link to {shown(member.linkname)}, which leads out of the image"
        if symbolic_links.intersection(parents(target)):
            return f"is a hard link to {shown(member.linkname)}, behind a link of its layer"
    if any(name.startswith(_KERNELS_OWN) for name in member.pax_headers):
        return "has attributes that are the kernel's own"
    return None
