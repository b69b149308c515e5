"""Submissions on their way in, by folder, zip, tar and tar.gz: one result, the same refusals.

What the unpacker writes always goes through the referee's receiver.
"""

import gzip
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advcomp.errors import InvalidSubmission
from advcomp.rules.folders import copy_folder, digest_folder, pack_folder
from advcomp.rules.inventory import Kind, Listing, Member, settle
from advcomp.rules.receive import receive
from advcomp.rules.unpack import unpack


@dataclass(frozen=True, slots=True)
class Item:
    """What to put into a folder or archive: content, or a link's target; a folder without."""

    path: str
    content: bytes | None = b""
    link: str | None = None
    mode: int = 0o644


def make_folder(items: Sequence[Item], where: Path) -> Path:
    where.mkdir()
    for item in items:
        path = where / item.path
        path.parent.mkdir(parents=True, exist_ok=True)
        if item.link is not None:
            path.symlink_to(item.link)
        elif item.content is None:
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(item.content)
            path.chmod(item.mode)
    return where


def make_zip(items: Sequence[Item], where: Path) -> Path:
    with zipfile.ZipFile(where, "w", zipfile.ZIP_DEFLATED) as archive:
        for item in items:
            info = zipfile.ZipInfo(item.path)
            info.create_system = 3
            info.external_attr = (0o100000 | item.mode) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            if item.link is not None:
                info.external_attr = 0o120777 << 16
                archive.writestr(info, item.link)
            elif item.content is None:
                info.filename += "/"
                info.external_attr = 0o40755 << 16
                archive.writestr(info, b"")
            else:
                archive.writestr(info, item.content)
    return where


def make_tar(items: Sequence[Item], where: Path) -> Path:
    with tarfile.open(where, "w:gz" if where.suffix == ".gz" else "w") as archive:
        for item in items:
            info = tarfile.TarInfo(item.path)
            info.mode = item.mode
            if item.link is not None:
                info.type, info.linkname = tarfile.SYMTYPE, item.link
            elif item.content is None:
                info.type = tarfile.DIRTYPE
            else:
                info.size = len(item.content)
            archive.addfile(info, BytesIO(item.content or b""))
    return where


def records_of(archive: Path) -> BytesIO:
    records = BytesIO()
    unpack(archive, records)
    records.seek(0)
    return records


Take = Callable[[Sequence[Item]], Path]
TakeArchive = Callable[[Path], Path]


@pytest.fixture
def take_archive(tmp_path: Path) -> TakeArchive:
    """Unpack an archive as the referee does; returns the folder."""

    def take(archive: Path) -> Path:
        folder = tmp_path / "received"
        receive(records_of(archive), folder, name="entry")
        return folder

    return take


@pytest.fixture(params=["folder", "zip", "tar", "tar.gz"])
def take(request: pytest.FixtureRequest, tmp_path: Path, take_archive: TakeArchive) -> Take:
    """Bring a submission into the referee's hands, by each of the four ways."""
    where = tmp_path / f"entry.{request.param}"

    def take_items(items: Sequence[Item]) -> Path:
        if request.param == "folder":
            copy_folder(make_folder(items, where), tmp_path / "received", name="entry")
            return tmp_path / "received"
        make = make_zip if request.param == "zip" else make_tar
        return take_archive(make(items, where))

    return take_items


def refused(take: Take, items: Sequence[Item], where: Path) -> list[str]:
    """The problems, each without the entry's name; nothing must be left of the attempt."""
    with pytest.raises(InvalidSubmission) as caught:
        take(items)
    assert not (where / "received").exists()
    return [problem.removeprefix("entry: ") for problem in caught.value.problems]


def tree(folder: Path) -> dict[str, bytes | None]:
    """Contents by path, None for folders; fails on anything else."""
    assert all(path.is_dir() or path.is_file() for path in folder.rglob("*"))
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    return {
        path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in folder.rglob("*")
    }


GOLDEN_DIGEST = "d74e8fbdfa9851d1fb25b19ddd17a7532a3e5d943b3a468c7de66ad747fe06e6"
META = Item("metadata.json", b"{}")
RUN = Item("run.sh", b"#!/bin/sh\n", mode=0o755)


def test_contents_folders_and_exec_bits_arrive(take: Take) -> None:
    big = bytes(range(256)) * 5000
    folder = take([META, RUN, Item("empty", None), Item("a/b/c", b"deep"), Item("big", big)])
    assert tree(folder) == {
        "metadata.json": b"{}", "run.sh": b"#!/bin/sh\n", "empty": None, "a": None, "a/b": None,
        "a/b/c": b"deep", "big": big,
    }  # fmt: skip
    assert (folder / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (folder / "big").stat().st_mode & 0o777 == 0o644
    assert (folder / "a/b").stat().st_mode & 0o777 == 0o755


def test_all_four_ways_give_one_digest(take: Take) -> None:
    items = [
        META,
        RUN,
        Item("z", None),
        Item("a-b/x", b"1"),
        Item("a/x", b"2"),
        Item("l", link="a"),
    ]
    assert digest_folder(take(items)) == GOLDEN_DIGEST


def test_the_program_writes_the_records_to_standard_output(tmp_path: Path) -> None:
    archive = make_tar([META, RUN, Item("l", link="run.sh")], tmp_path / "entry.tar.gz")
    program = [sys.executable, "-m", "advcomp.rules.unpack", str(archive)]
    printed = subprocess.run(program, check=True, stdout=subprocess.PIPE).stdout
    assert printed == records_of(archive).read()
    assert printed == (
        b"F\x0d\0\0\0metadata.json" b"B\2\0\0\0{}" b"X\6\0\0\0run.sh" b"B\x0a\0\0\0#!/bin/sh\n"
        b"C\x08\0\0\0l\0run.sh" b"E\0\0\0\0"
    )  # fmt: skip


def test_special_bits_do_not_arrive(take: Take) -> None:
    folder = take([META, Item("suid", b"x", mode=0o6755), Item("open", b"x", mode=0o666)])
    assert (folder / "suid").stat().st_mode & 0o7777 == 0o755
    assert (folder / "open").stat().st_mode & 0o7777 == 0o644


def test_links_that_stay_inside_become_copies(take: Take) -> None:
    folder = take([
        META, Item("a/real", b"x", mode=0o755), Item("file", link="a/real"),
        Item("chain", link="./file"), Item("b/up", link="../a/../a/real"), Item("dir", link="a"),
        Item("a/also", link="real"), Item("c/over", link="../dir/also"),
    ])  # fmt: skip
    paths = ("file", "chain", "b/up", "dir/real", "a/also", "dir/also", "c/over")
    for path in paths:
        assert (folder / path).read_bytes() == b"x"
        assert (folder / path).stat().st_mode & 0o777 == 0o755
    assert len({(folder / path).stat().st_ino for path in paths}) == len(paths)
    tree(folder)


@pytest.mark.parametrize(
    ("path", "target", "why"),
    [
        ("l", "/etc/shadow", "which leads out of the submission"),
        ("l", "..", "which leads out of the submission"),
        ("l", "../received/metadata.json", "which leads out of the submission"),
        ("a/l", "../../x", "which leads out of the submission"),
        ("a/l", "./b/../../../x", "which leads out of the submission"),
        ("l", "nothing", "which does not exist"),
        ("l", "metadata.json/x", "which does not exist"),
        ("l", "l", "which leads in circles"),
        ("l", ".", "a folder that holds itself"),
        ("a/l", "../a", "a folder that holds itself"),
        ("a/b/l", "..", "a folder that holds itself"),
    ],
)
def test_other_links_are_refused(
    take: Take, tmp_path: Path, path: str, target: str, why: str
) -> None:
    items = [META, Item("a/b/file", b""), Item(path, link=target)]
    assert refused(take, items, tmp_path) == [f'"{path}": is a link to "{target}", {why}']


def test_links_around_each_other_are_refused(take: Take, tmp_path: Path) -> None:
    items = [META, Item("a/x", link="../b"), Item("b/y", link="../a")]
    assert sorted(refused(take, items, tmp_path)) == [
        '"a/x": is a link to "../b", a folder that holds itself',
        '"b/y": is a link to "../a", a folder that holds itself',
    ]
    again = [META, Item("p", link="q"), Item("q", link="p")]
    (tmp_path / "again").mkdir()
    with pytest.raises(InvalidSubmission, match="leads in circles"):
        copy_folder(
            make_folder(again, tmp_path / "again/in"), tmp_path / "again/out", name="entry"
        )


def test_folders_that_multiply_through_links_are_refused(take: Take, tmp_path: Path) -> None:
    items = [META, Item("d00/file", b"")]
    for level in range(1, 20):
        items += [Item(f"d{level:02}/{i}", link=f"../d{level - 1:02}") for i in (1, 2)]
    problems = refused(take, items, tmp_path)
    assert problems
    assert all("leads to more than 20,000 files and folders" in problem for problem in problems)


@pytest.mark.parametrize("name", ["A.txt/x", "a.TXT", "\u00e9", "\ufb01"], ids=ascii)
def test_names_that_some_systems_take_for_one_are_refused(
    take: Take, tmp_path: Path, name: str
) -> None:
    items = [META, Item("a.txt/x", b""), Item("e\u0301", b""), Item("fi", b""), Item(name, b"")]
    if name == "A.txt/x":
        assert len(refused(take, items, tmp_path)) == 2
    elif name == "\ufb01":
        assert any("only in case or Unicode form" in p for p in refused(take, items, tmp_path))
    else:
        (problem,) = refused(take, items, tmp_path)
        assert "only in case or Unicode form" in problem


@pytest.mark.parametrize(
    ("name", "why"),
    [("a\\b", "backslash"), ("a\nb", "cannot be printed"), ("a\x1b[2J", "cannot be printed"),
     ("a\u202eb", "cannot be printed"), ("d/" * 64 + "f", "path beyond")],
    ids=ascii,
)  # fmt: skip
def test_unsafe_names_are_refused(take: Take, tmp_path: Path, name: str, why: str) -> None:
    (problem,) = refused(take, [META, Item(name, b"")], tmp_path)
    assert why in problem
    assert problem.isascii()
    assert problem.isprintable()


def test_what_macos_leaves_behind_is_dropped(take: Take) -> None:
    folder = take([META, RUN, Item("__MACOSX/._x", b""), Item(".DS_Store", b""), Item("._y", b"")])
    assert sorted(tree(folder)) == ["metadata.json", "run.sh"]


def test_everything_wrong_is_told_at_once(take: Take, tmp_path: Path) -> None:
    items = [META, Item("x", link="/x"), Item("y", link="../y"), Item("z", link="z")]
    assert len(refused(take, items, tmp_path)) == 3


@pytest.mark.slow
def test_too_many_members_are_refused(tmp_path: Path, take_archive: TakeArchive) -> None:
    items = [Item(f"{i // 500}/{i}", b"") for i in range(20_000)]
    with pytest.raises(InvalidSubmission, match="expected at most 20,000 files and folders"):
        copy_folder(make_folder(items, tmp_path / "in"), tmp_path / "out", name="entry")
    with pytest.raises(InvalidSubmission, match="expected at most 20,000 members"):
        take_archive(make_tar([*items, META], tmp_path / "entry.tar"))


# Archives alone


@pytest.fixture(params=[make_zip, make_tar], ids=["zip", "tar"])
def pack(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Sequence[Item]], Path]:
    make: Callable[[Sequence[Item], Path], Path] = request.param
    return lambda items: make(items, tmp_path / "entry.archive")


Pack = Callable[[Sequence[Item]], Path]


@pytest.mark.parametrize("dropping", ["__MACOSX/._run.sh", ".DS_Store", "._top"])
def test_a_single_folder_at_the_root_is_the_root(
    pack: Pack, take_archive: TakeArchive, dropping: str
) -> None:
    items = [Item("top/metadata.json", b"{}"), Item("top/l", link="metadata.json"), Item(dropping)]
    assert sorted(tree(take_archive(pack(items)))) == ["l", "metadata.json"]


def test_two_folders_at_the_root_stay(pack: Pack, take_archive: TakeArchive) -> None:
    assert sorted(tree(take_archive(pack([Item("p/x"), Item("q/x")])))) == ["p", "p/x", "q", "q/x"]


def test_a_single_file_at_the_root_stays(pack: Pack, take_archive: TakeArchive) -> None:
    assert sorted(tree(take_archive(pack([META])))) == ["metadata.json"]


def test_a_link_out_of_the_single_folder_leads_out(
    pack: Pack, take_archive: TakeArchive, tmp_path: Path
) -> None:
    items = [Item("top/metadata.json", b"{}"), Item("top/l", link="../top/metadata.json")]
    with pytest.raises(InvalidSubmission, match="leads out of the submission"):
        take_archive(pack(items))


def test_dots_and_double_slashes_in_paths_mean_nothing(
    pack: Pack, take_archive: TakeArchive
) -> None:
    folder = take_archive(pack([Item(".", None), Item("./metadata.json"), Item("./a//b/./c")]))
    assert sorted(tree(folder)) == ["a", "a/b", "a/b/c", "metadata.json"]


@pytest.mark.parametrize(
    ("items", "why"),
    [
        ([Item("../evil")], "has a .*in its path"),
        ([Item("a/../../evil")], "has a .*in its path"),
        ([Item("a/..")], "has a .*in its path"),
        ([Item("/etc/evil")], "is an absolute path"),
        ([Item("x", b"1"), Item("x", b"2")], "is there 2 times"),
        ([Item("x", b"1"), Item("./x", b"1")], "is there 2 times"),
        ([Item("x", b"1"), Item("x/y", b"2")], "is a file or link and a folder at once"),
        ([Item("x", b"1"), Item("x", None)], "is a file or link and a folder at once"),
        ([Item("l", link="/tmp"), Item("l/evil", b"")], "is a file or link and a folder at once"),
        (
            [Item("a/f"), Item("l", link="a"), Item("l/f")],
            "is a file or link and a folder at once",
        ),
    ],
)
def test_paths_that_escape_or_clash_are_refused(
    pack: Pack, take_archive: TakeArchive, items: list[Item], why: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library warns when it writes a name twice
        archive = pack([META, *items])
    with pytest.raises(InvalidSubmission, match=why):
        take_archive(archive)


@pytest.mark.parametrize("path", ["../metadata.json", "/metadata.json", "../x/metadata.json"])
def test_a_lone_way_out_is_not_taken_for_the_single_folder(
    pack: Pack, take_archive: TakeArchive, path: str
) -> None:
    with pytest.raises(InvalidSubmission, match=r"in its path|an absolute path"):
        take_archive(pack([Item(path)]))


def test_kinds_paths_clashes_and_links_are_refused_together(
    tmp_path: Path, take_archive: TakeArchive
) -> None:
    archive = tar_of(
        tmp_path / "entry.tar",
        (info_of("device", tarfile.CHRTYPE), b""),
        (info_of("../evil", tarfile.REGTYPE), b""),
        (info_of("twice", tarfile.REGTYPE), b""),
        (info_of("twice", tarfile.REGTYPE), b""),
        (info_of("link", tarfile.SYMTYPE, "/etc/shadow"), b""),
    )
    with pytest.raises(InvalidSubmission) as caught:
        take_archive(archive)
    assert [problem.split('"')[1] for problem in caught.value.problems] == [
        "device", "../evil", "twice", "link"
    ]  # fmt: skip


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    st.sampled_from(["zip", "tar", "tar.gz"]),
    st.lists(st.tuples(st.integers(0, 99_999), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_a_damaged_archive_is_refused_or_read_but_breaks_nothing(
    kind: str, damage: list[tuple[int, int]]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        where = Path(name) / f"entry.{kind}"
        items = [META, RUN, Item("a/b", b"x" * 50), Item("l", link="a"), Item("\u00e9")]
        (make_zip if kind == "zip" else make_tar)(items, where)
        data = bytearray(where.read_bytes()[:8192])
        for at, value in damage:
            data[at % len(data)] = value
        where.write_bytes(data)
        # Whatever is wrong, the unpacker itself says so: the receiver finds no fault with it.
        with suppress(InvalidSubmission):
            receive(records_of(where), Path(name) / "received", name="entry")
        assert records_of(where).read().endswith(b"E\0\0\0\0")
        assert {path.name for path in Path(name).iterdir()} <= {where.name, "received"}


def test_bombs_are_refused_by_ratio(tmp_path: Path, take_archive: TakeArchive) -> None:
    zeros = bytes(40 << 20)
    for make, name in ((make_zip, "b.zip"), (make_tar, "b.tar.gz")):
        with pytest.raises(InvalidSubmission, match="100 times what was packed"):
            take_archive(make([META, Item("zeros", zeros)], tmp_path / name))


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_copies_for_links_count_like_files_before_they_are_made(
    tmp_path: Path, suffix: str
) -> None:
    """An archive of this size may unpack to 32 MiB."""
    items = [META, RUN, Item("big", bytes(15 << 20)), Item("link", link="big")]
    make = make_zip if suffix == "zip" else make_tar
    receive(records_of(make(items, tmp_path / f"in.{suffix}")), tmp_path / "in", name="entry")
    assert (tmp_path / "in/link").stat().st_size == 15 << 20
    bomb = records_of(make([*items, Item("more", link="link")], tmp_path / f"bomb.{suffix}"))
    assert len(bomb.getvalue()) < 1000  # nothing was unpacked
    with pytest.raises(InvalidSubmission, match="bytes unpacked, a link counting like a copy"):
        receive(bomb, tmp_path / "out", name="entry")


def test_hard_links_count_like_files(tmp_path: Path, take_archive: TakeArchive) -> None:
    hard = [tarfile.TarInfo(f"link-{i}") for i in range(20)]
    for info in hard:
        info.type, info.linkname = tarfile.LNKTYPE, "big"
    big = tarfile.TarInfo("big")
    archive = tar_of(tmp_path / "entry.tar.gz", (big, bytes(30 << 20)), *((i, b"") for i in hard))
    assert archive.stat().st_size < 64 << 10
    with pytest.raises(InvalidSubmission, match="bytes unpacked, a link counting like a copy"):
        take_archive(archive)


def test_well_packed_files_are_not_bombs(pack: Pack, take_archive: TakeArchive) -> None:
    assert len(
        tree(take_archive(pack([META, Item("zeros", bytes(16 << 20))])))["zeros"] or b""
    ) == (16 << 20)


@pytest.mark.parametrize("kept", [0, 1, 30, 200, 600, 1024, 1500, 3000])
def test_truncated_archives_are_refused(pack: Pack, take_archive: TakeArchive, kept: int) -> None:
    archive = pack([META, Item("noise", os.urandom(3000)), RUN])
    archive.write_bytes(archive.read_bytes()[:kept])
    with pytest.raises(InvalidSubmission, match=r"damaged|expected a \.zip"):
        take_archive(archive)


@pytest.mark.parametrize("damage", [slice(-6, -5), slice(-8, None)], ids=["checksum", "end"])
def test_damage_behind_the_last_file_of_a_gzip_is_found(
    tmp_path: Path, take_archive: TakeArchive, damage: slice
) -> None:
    """All files can be read, but nothing says that they are what was packed."""
    archive = make_tar([META, RUN], tmp_path / "entry.tar.gz")
    data = bytearray(archive.read_bytes())
    data[damage] = b"!" if damage.stop else b""
    archive.write_bytes(data)
    with pytest.raises(InvalidSubmission, match="the archive is damaged"):
        take_archive(archive)


@pytest.mark.parametrize(
    ("packed", "got"),
    [(gzip.compress(b"x" * 2000), "a .gz file; pack the folder once"), (b"", "an empty file"),
     (b"x" * 2000, "something else"), (b"7z\xbc\xaf" + bytes(600), "a .7z file")],
    ids=["gzip", "empty", "text", "7z"],
)  # fmt: skip
def test_a_gzip_of_no_tar_says_what_it_holds(
    tmp_path: Path, take_archive: TakeArchive, packed: bytes, got: str
) -> None:
    (tmp_path / "entry.tar.gz").write_bytes(gzip.compress(packed))
    with pytest.raises(InvalidSubmission, match=re.escape(f"got a .gz of {got}")):
        take_archive(tmp_path / "entry.tar.gz")


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"PK", b"\x1f\x8b", b"x" * 2000, bytes(2000)])
def test_what_is_no_archive_is_refused(
    tmp_path: Path, take_archive: TakeArchive, content: bytes
) -> None:
    (tmp_path / "entry.zip").write_bytes(content)
    with pytest.raises(InvalidSubmission, match=r"damaged|expected a \.zip, \.tar or \.tar\.gz"):
        take_archive(tmp_path / "entry.zip")


# Zips alone


def forge(archive: Path, *replacements: tuple[bytes, bytes]) -> Path:
    data = archive.read_bytes()
    for old, new in replacements:
        assert old in data
        data = data.replace(old, new)
    archive.write_bytes(data)
    return archive


@pytest.mark.parametrize(
    ("flag", "why"), [(0x1, "is encrypted"), (0x40, "is encrypted")], ids=["classic", "strong"]
)
def test_encrypted_zips_are_refused(
    tmp_path: Path, take_archive: TakeArchive, flag: int, why: str
) -> None:
    archive = make_zip([META], tmp_path / "entry.zip")
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= flag
    archive.write_bytes(data)
    with pytest.raises(InvalidSubmission, match=why):
        take_archive(archive)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips_of_other_methods_are_refused(
    tmp_path: Path, take_archive: TakeArchive, method: int
) -> None:
    with zipfile.ZipFile(tmp_path / "entry.zip", "w", method) as archive:
        archive.writestr("metadata.json", b"{}" * 99)
    with pytest.raises(InvalidSubmission, match="another method than deflate"):
        take_archive(tmp_path / "entry.zip")


@pytest.mark.parametrize("kind", [0o1, 0o2, 0o6, 0o14])
def test_special_files_in_zips_are_refused(
    tmp_path: Path, take_archive: TakeArchive, kind: int
) -> None:
    with zipfile.ZipFile(tmp_path / "entry.zip", "w") as archive:
        info = zipfile.ZipInfo("pipe")
        info.create_system = 3
        info.external_attr = (kind << 12 | 0o644) << 16
        archive.writestr(info, b"")
    with pytest.raises(InvalidSubmission, match="device, FIFO or socket"):
        take_archive(tmp_path / "entry.zip")


@pytest.mark.parametrize("size", [2, 4, 1 << 20, 3 << 30])
def test_zips_that_lie_about_sizes_are_refused(
    tmp_path: Path, take_archive: TakeArchive, size: int
) -> None:
    archive = make_zip([Item("f", b"abc")], tmp_path / "entry.zip")
    data = bytearray(archive.read_bytes())
    at = data.index(b"PK\x01\x02") + 24
    data[at : at + 4] = size.to_bytes(4, "little")
    archive.write_bytes(data)
    with pytest.raises(InvalidSubmission, match=r"damaged|another size|bytes unpacked"):
        take_archive(archive)


def test_damaged_content_of_a_zip_is_refused(tmp_path: Path, take_archive: TakeArchive) -> None:
    with zipfile.ZipFile(tmp_path / "entry.zip", "w") as archive:
        archive.writestr("f", b"to be changed")
    forge(tmp_path / "entry.zip", (b"to be changed", b"to be changes"))
    with pytest.raises(InvalidSubmission, match="damaged"):
        take_archive(tmp_path / "entry.zip")


def test_names_that_are_not_utf8_are_refused(tmp_path: Path, take_archive: TakeArchive) -> None:
    items = [META, Item("na\udcff\udcfe")]
    with pytest.raises(InvalidSubmission, match=r"udcff.*not UTF-8"):
        copy_folder(make_folder(items, tmp_path / "in"), tmp_path / "out", name="entry")
    with pytest.raises(InvalidSubmission, match=r"udcff.*not UTF-8"):
        take_archive(make_tar(items, tmp_path / "entry.tar"))


@pytest.mark.parametrize(
    ("name", "why"),
    [(b"na\xff\xfe", "not UTF-8"), (b"na\0me", "cannot be printed"), (b"..\\x", "backslash")],
)
def test_unsafe_bytes_in_names_of_zips_are_refused(
    tmp_path: Path, take_archive: TakeArchive, name: bytes, why: str
) -> None:
    archive = make_zip([META, Item("n" * len(name))], tmp_path / "entry.zip")
    with pytest.raises(InvalidSubmission, match=why):
        take_archive(forge(archive, (b"n" * len(name), name)))


def test_utf8_names_are_read_with_or_without_the_flag(
    tmp_path: Path, take_archive: TakeArchive
) -> None:
    archive = make_zip([META, Item("naive")], tmp_path / "entry.zip")
    forge(archive, (b"naive", "na\u00efv".encode()))
    assert "na\u00efv" in tree(take_archive(archive))


def test_zips_from_systems_without_modes_are_read(
    tmp_path: Path, take_archive: TakeArchive
) -> None:
    with zipfile.ZipFile(tmp_path / "entry.zip", "w") as archive:
        info = zipfile.ZipInfo("run.sh")
        info.create_system = 0
        archive.writestr(info, b"#!/bin/sh")
    folder = take_archive(tmp_path / "entry.zip")
    assert (folder / "run.sh").stat().st_mode & 0o777 == 0o644


# Tars alone


def tar_of(path: Path, *infos: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for info, content in infos:
            info.size = len(content) or info.size
            archive.addfile(info, BytesIO(content))
    return path


def info_of(name: str, kind: bytes, link: str = "", **pax: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.pax_headers = kind, link, pax
    return info


def test_hard_links_inside_become_copies(tmp_path: Path, take_archive: TakeArchive) -> None:
    archive = tar_of(
        tmp_path / "entry.tar",
        (info_of("top/real", tarfile.REGTYPE), b"content"),
        (info_of("top/a/hard", tarfile.LNKTYPE, "top/real"), b""),
        (info_of("top/soft", tarfile.SYMTYPE, "a/hard"), b""),
    )
    folder = take_archive(archive)
    assert tree(folder) == {
        "real": b"content", "a": None, "a/hard": b"content", "soft": b"content"
    }  # fmt: skip
    assert (folder / "real").stat().st_nlink == 1


@pytest.mark.parametrize(
    ("target", "why"),
    [("/etc/passwd", "leads out"), ("../x", "leads out"), ("f/../../x", "leads out"),
     ("nothing", "does not exist"), ("hard", "leads in circles")],
)  # fmt: skip
def test_other_hard_links_are_refused(
    tmp_path: Path, take_archive: TakeArchive, target: str, why: str
) -> None:
    archive = tar_of(
        tmp_path / "entry.tar",
        (info_of("f/x", tarfile.REGTYPE), b""),
        (info_of("hard", tarfile.LNKTYPE, target), b""),
    )
    with pytest.raises(InvalidSubmission, match=why):
        take_archive(archive)


def test_a_hard_link_is_meant_from_the_root_of_the_archive(
    tmp_path: Path, take_archive: TakeArchive
) -> None:
    archive = tar_of(
        tmp_path / "entry.tar",
        (info_of("top/real", tarfile.REGTYPE), b""),
        (info_of("top/hard", tarfile.LNKTYPE, "real"), b""),
    )
    with pytest.raises(InvalidSubmission, match="leads out"):
        take_archive(archive)


@pytest.mark.parametrize(
    "kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"S", b"D", b"M", b"Z"]
)
def test_special_kinds_in_tars_are_refused(
    tmp_path: Path, take_archive: TakeArchive, kind: bytes
) -> None:
    archive = tar_of(tmp_path / "entry.tar", (info_of("x", kind), b""))
    with pytest.raises(InvalidSubmission, match=r"special kind|sparse|damaged"):
        take_archive(archive)


def test_sparse_files_in_pax_headers_are_refused(
    tmp_path: Path, take_archive: TakeArchive
) -> None:
    sparse = info_of("x", tarfile.REGTYPE, **{"GNU.sparse.map": "0,1", "GNU.sparse.size": "9"})
    with pytest.raises(InvalidSubmission, match="sparse"):
        take_archive(tar_of(tmp_path / "entry.tar", (sparse, b"x")))


def test_a_damaged_header_within_a_tar_does_not_end_it_quietly(
    tmp_path: Path, take_archive: TakeArchive
) -> None:
    archive = make_tar([META, RUN, Item("last")], tmp_path / "entry.tar")
    with pytest.raises(InvalidSubmission, match="has no end"):
        take_archive(forge(archive, (b"run.sh", b"run.py")))


def test_a_member_that_is_followed_by_itself_is_refused_by_name(
    tmp_path: Path, take_archive: TakeArchive
) -> None:
    """A size of minus one block leads back to its own header: twenty thousand members, before."""
    member = bytearray(tarfile.TarInfo("again").tobuf(tarfile.GNU_FORMAT))
    member[124:136] = b"\xff" * 10 + b"\xfe\0"
    member[148:156] = b" " * 8
    member[148:156] = b"%06o\0 " % sum(member)
    archive = tmp_path / "entry.tar"
    archive.write_bytes(tarfile.TarInfo("a").tobuf(tarfile.GNU_FORMAT) + member + bytes(1024))
    with pytest.raises(InvalidSubmission, match=r"damaged: .again: a negative size"):
        take_archive(archive)


def test_a_header_that_claims_terabytes_is_refused_at_once(
    tmp_path: Path, take_archive: TakeArchive
) -> None:
    info = tarfile.TarInfo("huge")
    info.size = 8 << 40
    for name, opener in (("a.tar", open), ("a.tar.gz", gzip.open)):
        with opener(tmp_path / name, "wb") as file:
            file.write(info.tobuf() + bytes(4096))
        with pytest.raises(InvalidSubmission, match=r"bytes unpacked|damaged"):
            take_archive(tmp_path / name)


def test_more_than_8_gib_packed_is_refused_unread(
    tmp_path: Path, take_archive: TakeArchive
) -> None:
    with (tmp_path / "entry.zip").open("wb") as file:
        file.truncate((8 << 30) + 1)
    with pytest.raises(InvalidSubmission, match="expected at most 8 GiB packed"):
        take_archive(tmp_path / "entry.zip")


# Folders alone


def test_special_files_in_folders_are_refused(tmp_path: Path) -> None:
    folder = make_folder([META, Item("a", None)], tmp_path / "in")
    os.mkfifo(folder / "a/pipe")
    with pytest.raises(InvalidSubmission, match='entry: "a/pipe": is a device, FIFO or socket'):
        copy_folder(folder, tmp_path / "out", name="entry")
    assert not (tmp_path / "out").exists()


def test_hard_links_in_folders_are_copied_apart(tmp_path: Path) -> None:
    folder = make_folder([META, Item("x", b"1")], tmp_path / "in")
    (folder / "y").hardlink_to(folder / "x")
    copy_folder(folder, tmp_path / "out", name="entry")
    (tmp_path / "out/x").write_bytes(b"2")
    assert (tmp_path / "out/y").read_bytes() == b"1"


def test_packed_folder_arrives_with_the_same_digest(tmp_path: Path, take: Take) -> None:
    folder = take([META, RUN, Item("empty", None), Item("a/\u00fc", os.urandom(5000))])
    pack_folder(folder, tmp_path / "first.zip")
    for path in folder.rglob("*"):
        os.utime(path, (1, 1))
    pack_folder(folder, tmp_path / "second.zip")
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()
    receive(records_of(tmp_path / "first.zip"), tmp_path / "again", name="entry")
    assert digest_folder(tmp_path / "again") == digest_folder(folder)
    assert tree(tmp_path / "again") == tree(folder)


def test_a_file_that_is_kept_elsewhere_is_packed_as_one_that_is_not_executable(
    tmp_path: Path, take: Take
) -> None:
    image = tmp_path / "large"
    image.write_bytes(b"an image")
    pack_folder(take([META, RUN]), tmp_path / "packed.zip", {"image.tar": image})
    receive(records_of(tmp_path / "packed.zip"), tmp_path / "again", name="entry")
    arrived = tmp_path / "again" / "image.tar"
    assert (arrived.read_bytes(), os.access(arrived, os.X_OK)) == (b"an image", False)


def test_digest_covers_names_contents_exec_bits_and_folders(tmp_path: Path) -> None:
    folder = make_folder([Item("a", b"1"), Item("b", b"2")], tmp_path / "in")
    digests = [digest_folder(folder)]
    (folder / "a").chmod(0o755)
    digests.append(digest_folder(folder))
    (folder / "a").write_bytes(b"3")
    digests.append(digest_folder(folder))
    (folder / "a").rename(folder / "c")
    digests.append(digest_folder(folder))
    (folder / "d").mkdir()
    digests.append(digest_folder(folder))
    assert len(set(digests)) == 5
    (folder / "d").rmdir()
    (folder / "c").rename(folder / "a")
    (folder / "a").write_bytes(b"1")
    (folder / "a").chmod(0o600)
    os.utime(folder / "a", (1, 1))
    assert digest_folder(folder) == digests[0]


def test_a_zip_with_backslashes_gets_one_line_with_the_remedy() -> None:
    members = [Member(path=f"sub\\file{n}", kind=Kind.FILE) for n in range(30)]
    with pytest.raises(InvalidSubmission) as caught:
        settle(Listing(members=members), wrapped=True)
    (told,) = caught.value.problems
    assert told.startswith(
        '"sub\\\\file0" and 29 more: a backslash in a path, where expected is /'
    )
    assert "python3 -m zipfile -c NAME.zip FOLDER" in told
