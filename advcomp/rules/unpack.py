"""Unpack a stranger's archive inside a sandbox: `python -m advcomp.rules.unpack ARCHIVE`.

Reads a .zip, .tar or .tar.gz, told apart by its content, and writes the records that
`advcomp.rules.receive` describes to standard output; nothing is written to a disk here. The
archive is listed whole before any content is read, so all that is refused is told at once:

* paths that are absolute, have `..`, are not UTF-8 or cannot be printed;
* paths that are there twice, or differ only in case or Unicode form, or go through a file or link;
* links that lead out of the submission, to nothing, or in circles (other links become copies);
* device nodes, FIFOs, sockets, sparse files, encrypted members, other compression than deflate;
* more than 8 GiB packed, 16 GiB unpacked, 20,000 members, or 100 times what was packed, the copies
  made for links included.

What an archive claims about sizes decides only how early it is refused: content is counted again.
"""

import contextlib
import gzip
import os
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, Protocol

from advcomp.errors import InvalidSubmission
from advcomp.rules.inventory import Kind, Listing, Member, settle
from advcomp.rules.paths import normal_path, shown
from advcomp.rules.receive import MAX_RECORD_BYTES, RECORD
from advcomp.rules.sizes import MAX_MEMBERS, MAX_PACKED_BYTES, too_large, unpacked_limit

_HEADERS_BYTES = MAX_MEMBERS * 4096
"""Ample for what stands between the files of a tar."""
_LONG_HEADERS_BYTES = MAX_MEMBERS * 512
"""Ample for names of any length, and for what else tar programs note of a file."""

_BLOCK = 512
_CHUNK = 1 << 16
_GZIP = b"\x1f\x8b"
_STARTS = (
    (b"\xfd7zXZ", "an .xz file, whatever its name; pack it as .tar.gz"),
    (b"BZh", "a .bz2 file, whatever its name; pack it as .tar.gz"),
    (b"\x28\xb5\x2f\xfd", "a .zst file, whatever its name; pack it as .tar.gz"),
    (b"7z\xbc\xaf", "a .7z file, whatever its name; pack it as .zip"),
    (b"Rar!", "a .rar file, whatever its name; pack it as .zip"),
    (b"version https://git-lfs", "a pointer of Git LFS; fetch the file itself: git lfs pull"),
    (_GZIP, "a .gz file; pack the folder once, as .tar.gz"),
    (bytes(_BLOCK), "an empty .tar"),
    (b"<", "a page of HTML or XML; the download went wrong"),
)
"""What is taken for an archive, by its first bytes."""
_MAX_TARGET = 4096
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    struct.error,
    zlib.error,
    tarfile.TarError,
    zipfile.BadZipFile,
)
"""What the library raises on archives that are truncated or forged; it follows headers that only
announce others by recursion, and looks for a sparse file's parts behind the end."""

_LONG_HEADERS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)


class Archive(Protocol):
    """An open archive."""

    def listing(self) -> Listing:
        """All members, the paths as `normal_path` gives them.

        Raises:
            InvalidSubmission: There are too many, or they are too large.
        """
        ...

    def open(self, member: Member) -> IO[bytes]:
        """The content of a file."""
        ...


def unpack(archive: Path, out: BinaryIO) -> None:
    """Write `archive` as records: its content, or all that is wrong with it."""
    with told(out):
        size = archive.stat().st_size
        if size > MAX_PACKED_BYTES:
            raise InvalidSubmission(
                f"expected at most {MAX_PACKED_BYTES >> 30} GiB packed, got {size:,} bytes"
            )
        with archive.open("rb") as file:
            _write_members(_open(file, unpacked_limit(size)), out)


@contextlib.contextmanager
def told(out: BinaryIO) -> Iterator[None]:
    """Write as records what is found to be wrong with an archive; then the record of the end."""
    try:
        yield
    except InvalidSubmission as error:
        for problem in error.problems:
            write_record(out, b"P", problem.encode("ascii", "backslashreplace"))
    except DAMAGE as error:
        write_record(out, b"P", f"the archive is damaged: {shown(str(error))}".encode())
    write_record(out, b"E", b"")


def _open(file: BinaryIO, limit: int) -> Archive:
    head = file.read(_BLOCK)
    file.seek(0)
    if head.startswith(b"PK"):
        return _Zip(file, limit)
    if head.startswith(_GZIP):
        unzipped = _BoundedGzip(file, limit + _HEADERS_BYTES)
        head = unzipped.read(_BLOCK)
        unzipped.seek(0)
        if _is_tar(head):
            return TarArchive(unzipped, limit)
        raise InvalidSubmission(
            f"expected a .zip, .tar or .tar.gz archive, got a .gz of {_kind_of(head)}"
        )
    if _is_tar(head):
        return TarArchive(file, limit)
    raise InvalidSubmission(f"expected a .zip, .tar or .tar.gz archive, got {_kind_of(head)}")


def _kind_of(head: bytes) -> str:
    """What begins so, and what to do with it."""
    if not head:
        return "an empty file"
    return next((kind for start, kind in _STARTS if head.startswith(start)), "something else")


def _is_tar(head: bytes) -> bool:
    if len(head) < _BLOCK:
        return False
    if head[257:262] == b"ustar":
        return True
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _write_members(archive: Archive, out: BinaryIO) -> None:
    settled = settle(archive.listing(), wrapped=True)
    for path in settled.folders:
        write_record(out, b"D", path.encode())
    for member in settled.files:
        write_record(out, b"X" if member.executable else b"F", member.path.encode())
        _write_content(archive, member, out)
    for path, original in settled.copies:
        write_record(out, b"C", f"{path}\0{original.path}".encode())


def _write_content(archive: Archive, member: Member, out: BinaryIO) -> None:
    left = member.size
    with archive.open(member) as content:
        while chunk := content.read(min(MAX_RECORD_BYTES, left + 1)):
            left -= len(chunk)
            if left < 0:
                break
            write_record(out, b"B", chunk)
    if left:
        raise InvalidSubmission(
            f"{shown(member.path)}: has another size than the archive says ({member.size:,})"
        )


def write_record(out: BinaryIO, kind: bytes, content: bytes) -> None:
    """Write one record, as `advcomp.rules.receive` describes it."""
    out.write(RECORD.pack(kind, len(content)))
    out.write(content)


class _BoundedGzip(gzip.GzipFile):
    """As much of a gzip file as an archive within the limits can need, and no more."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        super().__init__(fileobj=file, mode="rb")
        self._limit = limit

    def read(self, size: int | None = -1) -> bytes:
        """Read `size` bytes, which must not be all that there are."""
        if size is None or size < 0 or self.tell() + size > self._limit:
            raise InvalidSubmission(too_large(self._limit))
        return super().read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to `offset`, which decompresses all before it."""
        if offset > self._limit:
            raise InvalidSubmission(too_large(self._limit))
        return super().seek(offset, whence)


class _Zip:
    """A zip, as its central directory lists it."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._zip = zipfile.ZipFile(file)
        self._limit = limit

    def listing(self) -> Listing:
        infos = self._zip.infolist()
        _check_amount(len(infos), sum(info.file_size for info in infos), self._limit)
        faults = [list(_zip_faults(info)) for info in infos]
        members = [self._member(i, info) for i, info in enumerate(infos) if not faults[i]]
        return Listing(
            members=[member for member in members if member.path],
            problems=[
                f"{shown(_zip_name(info))}: {fault}"
                for i, info in enumerate(infos)
                for fault in faults[i]
            ],
            max_bytes=self._limit,
        )

    def open(self, member: Member) -> IO[bytes]:
        return self._zip.open(self._zip.infolist()[member.index])

    def _member(self, index: int, info: zipfile.ZipInfo) -> Member:
        mode = info.external_attr >> 16
        path = normal_path(_zip_name(info))
        if info.is_dir():
            return Member(path=path, kind=Kind.FOLDER)
        if stat.S_ISLNK(mode):
            with self._zip.open(info) as content:
                target = content.read(_MAX_TARGET).decode("utf-8", "surrogateescape")
            return Member(path=path, kind=Kind.SYMLINK, target=target)
        return Member(
            path=path,
            kind=Kind.FILE,
            size=info.file_size,
            executable=bool(mode & 0o111),
            index=index,
        )


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name as its bytes say in UTF-8, with or without the flag that says so."""
    if info.flag_bits & 0x800:
        return info.orig_filename
    return info.orig_filename.encode("cp437").decode("utf-8", "surrogateescape")


def _zip_faults(info: zipfile.ZipInfo) -> Iterator[str]:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if not info.filename:
        yield "has no name"
    if info.flag_bits & 0x41:
        yield "is encrypted; pack it again, without a password"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        yield (
            "is compressed by another method than deflate; pack it again, e.g. with: python3 -m "
            "zipfile -c NAME.zip FOLDER"
        )
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
        yield "is a device, FIFO or socket"
    if kind == stat.S_IFLNK and info.file_size >= _MAX_TARGET:
        yield "is a link with a target that is too long"


def bounded_headers(limit: int) -> type[tarfile.TarInfo]:
    """How headers of one tar are read: those of any length, pax and GNU's, up to a sum.

    The library reads such a header whole, and takes its time for each of its records.

    Args:
        limit: Bytes of all of them.
    """
    left = limit

    class Header(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "Header":
            nonlocal left
            found = super().frombuf(buf, encoding, errors)
            if found.size < 0:  # it would be followed by itself, without end
                raise tarfile.HeaderError(f"{found.name}: a negative size")
            if found.type in _LONG_HEADERS:
                left -= max(found.size, 0)
                if left < 0:
                    raise tarfile.HeaderError(f"more than {limit:,} bytes of extended headers")
            return found

    return Header


class TarArchive:
    """A tar of any flavour."""

    def __init__(self, file: BinaryIO | gzip.GzipFile, limit: int) -> None:
        self._file = file
        self._limit = limit
        self._tar = tarfile.TarFile(
            fileobj=file, encoding="utf-8", tarinfo=bounded_headers(_LONG_HEADERS_BYTES)
        )
        self._infos: list[tarfile.TarInfo] = []

    def listing(self) -> Listing:
        """See `Archive`."""
        size = 0
        for info in self._tar:
            self._infos.append(info)
            size += max(info.size, 0)
            _check_amount(len(self._infos), size, self._limit)
        self._check_end()
        faults = [list(_tar_faults(info)) for info in self._infos]
        members = [_tar_member(i, info) for i, info in enumerate(self._infos) if not faults[i]]
        return Listing(
            members=[member for member in members if member.path],
            problems=[
                f"{shown(info.name)}: {fault}"
                for i, info in enumerate(self._infos)
                for fault in faults[i]
            ],
            max_bytes=self._limit,
        )

    def open(self, member: Member) -> IO[bytes]:
        """See `Archive`."""
        content: IO[bytes] | None = self._tar.extractfile(self._infos[member.index])
        assert content is not None, "only files are opened"
        return content

    def _check_end(self) -> None:
        """Refuse a tar that stops anywhere but at its end mark: the library would not."""
        self._file.seek(self._tar.offset)
        if self._file.read(_BLOCK) != bytes(_BLOCK):
            raise InvalidSubmission("the archive is damaged: it has no end")
        if isinstance(self._file, gzip.GzipFile):
            while self._file.read(_CHUNK):  # the checksum stands behind all content
                pass


def _tar_faults(info: tarfile.TarInfo) -> Iterator[str]:
    if info.issparse():
        yield "is a sparse file"
    elif not (info.isreg() or info.isdir() or info.issym() or info.islnk()):
        yield "is a device, FIFO or of another special kind"


def _tar_member(index: int, info: tarfile.TarInfo) -> Member:
    path = normal_path(info.name)
    if info.isdir():
        return Member(path=path, kind=Kind.FOLDER)
    if info.issym():
        return Member(path=path, kind=Kind.SYMLINK, target=info.linkname)
    if info.islnk():
        return Member(path=path, kind=Kind.HARD_LINK, target=normal_path(info.linkname))
    return Member(
        path=path,
        kind=Kind.FILE,
        size=info.size,
        executable=bool(info.mode & 0o111),
        index=index,
    )


def _check_amount(count: int, size: int, limit: int) -> None:
    if count > MAX_MEMBERS:
        raise InvalidSubmission(f"expected at most {MAX_MEMBERS:,} members, got more")
    if size > limit:
        raise InvalidSubmission(too_large(limit))


if __name__ == "__main__":
    unpack(Path(sys.argv[1]), sys.stdout.buffer)
