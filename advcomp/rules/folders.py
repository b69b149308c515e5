"""Folders of submissions: copied without links, digested, and packed the same every time.

`copy_folder` is the only function here that meets a folder as a stranger made it. All others work
on its copies, which hold regular files and folders and nothing else.
"""

import hashlib
import os
import stat
import zipfile
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from advcomp.errors import InvalidSubmission
from advcomp.rules.inventory import Kind, Listing, Member, settle
from advcomp.rules.paths import path_fault, shown
from advcomp.rules.receive import FolderWriter, Refused, fresh_folder
from advcomp.rules.sizes import MAX_MEMBERS

_CHUNK = 1 << 20
_NO_TIME = (1980, 1, 1, 0, 0, 0)
_UNIX = 3


def copy_folder(source: Path, destination: Path, *, name: str) -> None:
    """Copy a submission's folder; links that stay inside become copies of what they lead to.

    Args:
        destination: Must not exist; after an error it does not exist either.
        name: What messages call the submission.

    Raises:
        InvalidSubmission: All that has no place in a submission: links that lead out, to nothing
            or in circles, special files, unsafe names, too much of anything.
        OSError: The disk got full, and the submission is within its limits.
    """
    try:
        settled = settle(_list(source), wrapped=False)
        with fresh_folder(destination):
            writer = FolderWriter(destination)
            for path in settled.folders:
                writer.add_folder(path)
            for member in settled.files:
                _copy_file(source, member, writer)
            for path, original in settled.copies:
                writer.add_copy(path, original.path)
            writer.finish()
    except InvalidSubmission as error:
        raise InvalidSubmission(*(f"{name}: {problem}" for problem in error.problems)) from error
    except Refused as error:
        raise InvalidSubmission(f"{name}: cannot be copied: {error}") from error


def copy_outline(source: Path, destination: Path, *, whole: str) -> None:
    """Copy the names of a folder that was refused, so that its metadata can be read.

    Its files are empty there but one. Links, special files and unsafe names are left out; that
    they are there was told already.

    Args:
        whole: The file whose content is copied, at most 1 MiB of it.

    Raises:
        InvalidSubmission: Even that is too much.
    """
    try:
        members = [m for m in _list(source).members if path_fault(m.path) is None]
        with fresh_folder(destination):
            writer = FolderWriter(destination)
            for member in members:
                if member.kind is Kind.FOLDER:
                    writer.add_folder(member.path)
            for member in members:
                if member.kind is Kind.FILE:
                    with writer.add_file(member.path, executable=member.executable) as file:
                        if member.path == whole:
                            file.write(_beginning(source / whole))
            writer.finish()
    except Refused as error:
        raise InvalidSubmission(f"cannot be copied: {error}") from error


def digest_folder(folder: Path) -> str:
    """SHA-256 (hex) of a copy: sorted paths, exec bits and contents; no times, no owners."""
    digest = hashlib.sha256()
    for path, executable in walk_copy(folder):
        if executable is None:
            digest.update(f"folder {path}\n".encode())
            continue
        with (folder / path).open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{'program' if executable else 'file'} {content} {path}\n".encode())
    return digest.hexdigest()


def pack_folder(folder: Path, archive: Path, beside: Mapping[str, Path] | None = None) -> None:
    """Write a copy as a zip that has the same bytes whenever and wherever it is written.

    Args:
        beside: Files of its root that are kept outside of it: name -> where.
    """
    draft = archive.with_name(f".{archive.name}.{os.getpid()}")
    try:
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as packed:
            for path, executable in walk_copy(folder):
                _pack(packed, path, folder / path, executable)
            for name, file in sorted((beside or {}).items()):
                _pack(packed, name, file, executable=False)
        draft.replace(archive)
    finally:
        draft.unlink(missing_ok=True)


def walk_copy(folder: Path) -> Iterator[tuple[str, bool | None]]:
    """Every path of a copy, sorted by its parts; whether it is executable, None for a folder."""
    for path in sorted(folder.rglob("*"), key=lambda path: path.parts):
        mode = path.lstat().st_mode
        assert stat.S_ISREG(mode) or stat.S_ISDIR(mode), f"{path} is no copy's"
        relative = path.relative_to(folder).as_posix()
        yield relative, None if stat.S_ISDIR(mode) else bool(mode & 0o111)


def _list(source: Path) -> Listing:
    """Every file, folder and link of a stranger's folder, links not followed."""
    members: list[Member] = []
    problems: list[str] = []
    waiting = [""]
    while waiting and len(members) <= MAX_MEMBERS:
        above = waiting.pop()
        for entry in _entries(source / above):
            path = f"{above}/{entry.name}" if above else entry.name
            member = _member(entry, path)
            if member is None:
                problems.append(f"{shown(path)}: is a device, FIFO or socket")
                continue
            members.append(member)
            if member.kind is Kind.FOLDER:
                waiting.append(path)
    return Listing(members=members, problems=problems)


def _entries(folder: Path) -> "list[os.DirEntry[str]]":
    try:
        with os.scandir(folder) as entries:
            return sorted(islice(entries, MAX_MEMBERS + 1), key=lambda entry: entry.name)
    except OSError as error:
        raise Refused(f"{shown(folder.name)}: {error.strerror}") from error


def _member(entry: "os.DirEntry[str]", path: str) -> Member | None:
    status = entry.stat(follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        return Member(path=path, kind=Kind.FOLDER)
    if stat.S_ISLNK(status.st_mode):
        target = os.readlink(entry.path)  # noqa: PTH115 (Path would rewrite it)
        return Member(path=path, kind=Kind.SYMLINK, target=target)
    if not stat.S_ISREG(status.st_mode):
        return None
    executable = bool(status.st_mode & 0o111)
    return Member(path=path, kind=Kind.FILE, size=status.st_size, executable=executable)


def _copy_file(source: Path, member: Member, writer: FolderWriter) -> None:
    with (
        _open(source / member.path) as original,
        writer.add_file(member.path, executable=member.executable) as file,
    ):
        while content := original.read(_CHUNK):
            file.write(content)


def _beginning(path: Path) -> bytes:
    with _open(path) as file:
        return file.read(_CHUNK)


def _open(path: Path) -> BinaryIO:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.fdopen(os.open(path, flags), "rb")
    except OSError as error:
        raise Refused(f"{shown(path.name)}: {error.strerror}") from error


def _pack(packed: zipfile.ZipFile, path: str, source: Path, executable: bool | None) -> None:
    kind = stat.S_IFDIR if executable is None else stat.S_IFREG
    info = zipfile.ZipInfo(f"{path}/" if executable is None else path, _NO_TIME)
    info.create_system = _UNIX
    info.external_attr = (kind | (0o644 if executable is False else 0o755)) << 16
    if executable is None:
        packed.writestr(info, b"")
        return
    with source.open("rb") as file, packed.open(info, "w", force_zip64=True) as member:
        while content := file.read(_CHUNK):
            member.write(content)
