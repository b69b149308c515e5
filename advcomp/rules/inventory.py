"""What a submission consists of, settled before a byte of it is copied.

Archives and folders are first listed as `Member`s. `settle` then refuses what has no place in a
submission and turns links into copies: a symbolic or hard link that stays inside becomes a copy of
the file, or of the whole folder, that it leads to. The result holds no links at all, so nothing
after it has to think of them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

from advcomp.errors import InvalidSubmission
from advcomp.rules.paths import folded, is_dropping, parents, path_fault, shown
from advcomp.rules.sizes import MAX_MEMBERS, MAX_UNPACKED_BYTES, too_large

Planned = TypeVar("Planned")

_MAX_HOPS = 40
_MAX_PROBLEMS = 50


class Kind(Enum):
    """What a member is."""

    FILE = "file"
    FOLDER = "folder"
    SYMLINK = "symbolic link"
    HARD_LINK = "hard link"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One entry of an archive or folder.

    Args:
        path: As `normal_path` gives it.
        kind: What it is.
        size: Bytes of a file.
        executable: Whether a file has an exec bit.
        target: Of a symbolic link, as it stands there; of a hard link, a path from the root.
        index: Where the reader finds its content again.
    """

    path: str
    kind: Kind
    size: int = 0
    executable: bool = False
    target: str = ""
    index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A submission without links.

    Args:
        folders: Paths, each after those above it.
        files: In the order of the listing.
        copies: (path, member to copy), for what were links.
    """

    folders: tuple[str, ...]
    files: tuple[Member, ...]
    copies: tuple[tuple[str, Member], ...]

    @property
    def size(self) -> int:
        """Bytes of all files and copies."""
        return sum(m.size for m in self.files) + sum(m.size for _, m in self.copies)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a reader found: members, what it refuses itself, and what they may unpack to."""

    members: Sequence[Member]
    problems: Sequence[str] = ()
    max_bytes: int = MAX_UNPACKED_BYTES


def settle(listing: Listing, *, wrapped: bool) -> Settled:
    """Check a listing and resolve its links.

    Args:
        listing: Of an archive or a folder.
        wrapped: Whether a folder that stands alone at the root is the root, as in archives.

    Raises:
        InvalidSubmission: All that is refused, one sentence each.
    """
    # Paths are judged before a root is taken off: a lone ".." would be taken for one.
    problems = [*listing.problems, *_path_problems(listing.members)]
    members = [m for m in listing.members if path_fault(m.path) is None]
    members = [m for m in members if not is_dropping(m.path.split("/")[0])]
    if wrapped:
        members = _without_wrapping(members)
    problems.extend(_clashes(members))
    tree = _Tree(members)
    for link in tree.links():
        try:
            tree.expand(link, link.path, ())
        except _Refused as refused:
            problems.append(f"{shown(link.path)}: {refused}")
    settled = tree.settled()
    problems.extend(_too_much(settled, listing.max_bytes))
    if problems:
        rest = len(problems) - _MAX_PROBLEMS
        more = [f"and {rest} problems more"] if rest > 0 else []
        raise InvalidSubmission(*problems[:_MAX_PROBLEMS], *more)
    return settled


class _Refused(Exception):
    """Why a link cannot become a copy."""


def _without_wrapping(members: list[Member]) -> list[Member]:
    """The members inside the one folder that stands alone at the root, if one does."""
    roots = {m.path.split("/")[0] for m in members}
    if len(roots) != 1:
        return members
    root = roots.pop()
    if any(m.path == root and m.kind is not Kind.FOLDER for m in members):
        return members
    return [_moved_up(m, f"{root}/") for m in members if m.path != root]


def _moved_up(member: Member, prefix: str) -> Member:
    target = member.target
    if member.kind is Kind.HARD_LINK:
        target = target.removeprefix(prefix) if target.startswith(prefix) else f"../{target}"
    return replace(member, path=member.path.removeprefix(prefix), target=target)


def _path_problems(members: Iterable[Member]) -> Iterator[str]:
    split = [member.path for member in members if "\\" in member.path]
    if split:
        more = f" and {len(split) - 1:,} more" if len(split) > 1 else ""
        yield (
            f"{shown(split[0])}{more}: a backslash in a path, where expected is / between folders "
            "(some Windows programs pack so); pack it again, e.g. with: python3 -m zipfile -c "
            "NAME.zip FOLDER"
        )
    for member in members:
        fault = path_fault(member.path)
        if fault is not None and "\\" not in member.path:
            yield f"{shown(member.path)}: {fault}"


def _clashes(members: Sequence[Member]) -> Iterator[str]:
    """Members that cannot stand side by side."""
    folders = {m.path for m in members if m.kind is Kind.FOLDER}
    folders.update(above for m in members for above in parents(m.path))
    others = Counter(m.path for m in members if m.kind is not Kind.FOLDER)
    for path, times in others.items():
        if times > 1:
            yield f"{shown(path)}: is there {times} times"
        if path in folders:
            yield f"{shown(path)}: is a file or link and a folder at once"
    taken: dict[str, str] = {}
    for path in sorted({*folders, *others}):
        other = taken.setdefault(folded(path), path)
        if other != path:
            yield f"{shown(path)}: differs from {shown(other)} only in case or Unicode form"


def _too_much(settled: Settled, max_bytes: int) -> Iterator[str]:
    count = len(settled.folders) + len(settled.files) + len(settled.copies)
    if count > MAX_MEMBERS:
        yield f"expected at most {MAX_MEMBERS:,} files and folders, got {count:,}"
    if settled.size > max_bytes:
        yield too_large(max_bytes)


class _Tree:
    """The listing as a file system, in which links can be followed."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = {m.path: m for m in members}
        for member in members:
            for above in parents(member.path):
                self.members.setdefault(above, Member(path=above, kind=Kind.FOLDER))
        self.children: dict[str, list[Member]] = {}
        for member in self.members.values():
            self.children.setdefault(member.path.rpartition("/")[0], []).append(member)
        self.new_folders: list[str] = []
        self.copies: list[tuple[str, Member]] = []

    def links(self) -> list[Member]:
        links = (Kind.SYMLINK, Kind.HARD_LINK)
        return [m for m in self.members.values() if m.kind in links]

    def expand(self, link: Member, path: str, within: tuple[str, ...]) -> None:
        """Plan a copy at `path` of what `link` leads to.

        Args:
            within: The folders of which copies are being planned around this one.
        """
        if path_fault(path) is not None:
            raise _Refused(f"leads to a folder in which {shown(path)} {path_fault(path)}")
        target = self._follow(link)
        if target.kind is Kind.FILE:
            self._plan(self.copies, (path, target))
            return
        holds_link = not target.path or link.path.startswith(f"{target.path}/")
        if holds_link or target.path in within:
            raise _Refused(f"is a link to {shown(link.target)}, a folder that holds itself")
        self._copy_folder(target, path, (*within, target.path))

    def settled(self) -> Settled:
        """The tree and the planned copies."""
        folders = [m.path for m in self.members.values() if m.kind is Kind.FOLDER]
        return Settled(
            folders=tuple(sorted((*folders, *self.new_folders), key=lambda p: p.split("/"))),
            files=tuple(m for m in self.members.values() if m.kind is Kind.FILE),
            copies=tuple(self.copies),
        )

    def _copy_folder(self, folder: Member, path: str, within: tuple[str, ...]) -> None:
        self._plan(self.new_folders, path)
        for child in self.children.get(folder.path, []):
            at = f"{path}/{child.path.rpartition('/')[2]}"
            if child.kind is Kind.FOLDER:
                self._copy_folder(child, at, within)
            elif child.kind is Kind.FILE:
                self._plan(self.copies, (at, child))
            else:
                self.expand(child, at, within)

    def _plan(self, plan: list[Planned], item: Planned) -> None:
        plan.append(item)
        count = len(self.members) + len(self.new_folders) + len(self.copies)
        if count > MAX_MEMBERS:
            raise _Refused(f"leads to more than {MAX_MEMBERS:,} files and folders")

    def _follow(self, link: Member) -> Member:
        """The file or folder that `link` leads to, over any number of links.

        Walks as the kernel would, part by part, so that `..` behind a link is meant where the
        link leads.
        """
        at = link.path.split("/")[:-1] if link.kind is Kind.SYMLINK else []
        ahead = self._steps(link)
        hops = 0
        while ahead:
            part = ahead.pop(0)
            if part == "..":
                if not at:
                    raise _leads_out(link)
                at.pop()
                continue
            member = self.members.get("/".join((*at, part)))
            if member is None or (member.kind is Kind.FILE and ahead):
                raise _Refused(f"is a link to {shown(link.target)}, which does not exist")
            if member.kind in (Kind.FILE, Kind.FOLDER):
                at.append(part)
                continue
            hops += 1
            if hops > _MAX_HOPS:
                raise _Refused(f"is a link to {shown(link.target)}, which leads in circles")
            if member.kind is Kind.HARD_LINK:
                at = []
            ahead = [*self._steps(member), *ahead]
        return self.members.get("/".join(at), Member(path="", kind=Kind.FOLDER))

    @staticmethod
    def _steps(link: Member) -> list[str]:
        if link.target.startswith("/"):
            raise _leads_out(link)
        return [part for part in link.target.split("/") if part not in ("", ".")]


def _leads_out(link: Member) -> _Refused:
    return _Refused(f"is a link to {shown(link.target)}, which leads out of the submission")
