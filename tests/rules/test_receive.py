"""The referee's end of unpacking trusts nothing that the unpacker says."""

import struct
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO, RawIOBase
from pathlib import Path
from textwrap import dedent

import pytest

from advcomp.errors import InvalidSubmission
from advcomp.rules.receive import MAX_RECORD_BYTES, receive


def record(kind: bytes, content: bytes = b"") -> bytes:
    return kind + struct.pack("<I", len(content)) + content


def stream(*records: tuple[bytes, bytes]) -> BytesIO:
    return BytesIO(b"".join(record(*parts) for parts in (*records, (b"E", b""))))


def problems(folder: Path, data: BytesIO, max_bytes: int = 1000, max_members: int = 5) -> str:
    with pytest.raises(InvalidSubmission) as caught:
        receive(data, folder, name="entry", max_bytes=max_bytes, max_members=max_members)
    assert not folder.exists()
    assert all(problem.startswith("entry: ") for problem in caught.value.problems)
    return str(caught.value)


def test_records_become_files(tmp_path: Path) -> None:
    receive(
        stream((b"D", b"a"), (b"X", b"a/run"), (b"B", b"one "), (b"B", b"two"), (b"F", b"empty"),
               (b"C", b"copy\0a/run")),
        tmp_path / "out", name="entry",
    )  # fmt: skip
    assert (tmp_path / "out/a/run").read_bytes() == b"one two"
    assert (tmp_path / "out/copy").read_bytes() == b"one two"
    assert (tmp_path / "out/copy").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out/empty").stat().st_size == 0


@pytest.mark.parametrize(
    "path",
    [b"../evil", b"/tmp/evil", b"a/../../evil", b".", b"..", b"", b"a/", b"./a", b"a//b", b"a\0b",
     b"a\nb", b"a\\b", b"\xff", b"x" * 256, b"d/" * 64 + b"f", b"missing/file"],
    ids=ascii,
)  # fmt: skip
@pytest.mark.parametrize("kind", [b"D", b"F", b"X", b"C"])
def test_every_path_is_checked_again(tmp_path: Path, kind: bytes, path: bytes) -> None:
    content = path + b"\0good" if kind == b"C" else path
    problems(tmp_path / "out", stream((b"F", b"good"), (kind, content)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first", [b"D", b"F"])
@pytest.mark.parametrize("second", [b"D", b"F", b"X"])
def test_nothing_is_made_twice(tmp_path: Path, first: bytes, second: bytes) -> None:
    assert "is there twice" in problems(tmp_path / "out", stream((first, b"x"), (second, b"x")))


@pytest.mark.parametrize("original", [b"missing", b"a", b"../../etc/passwd", b"/etc/passwd", b""])
def test_only_received_files_are_copied(tmp_path: Path, original: bytes) -> None:
    data = stream((b"D", b"a"), (b"C", b"x\0" + original))
    assert "is copied, but is no file" in problems(tmp_path / "out", data)


def test_bytes_are_capped_copies_included(tmp_path: Path) -> None:
    exact = (b"F", b"x"), (b"B", bytes(500)), (b"C", b"y\0x")
    receive(stream(*exact), tmp_path / "exact", name="entry", max_bytes=1000)
    assert "more bytes" in problems(tmp_path / "out", stream(*exact), max_bytes=999)
    assert "more bytes" in problems(tmp_path / "out", stream((b"F", b"x"), (b"B", bytes(1001))))


def test_members_are_capped(tmp_path: Path) -> None:
    records = [(b"D", b"a"), (b"F", b"x"), (b"C", b"y\0x")]
    receive(stream(*records), tmp_path / "exact", name="entry", max_members=3)
    message = problems(tmp_path / "out", stream(*records), max_members=2)
    assert "more files and folders" in message


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "stopped early"),
        (b"F\1\0", "stopped early"),
        (record(b"F", b"x"), "stopped early"),
        (record(b"F", b"x") + b"B\xff\0\0\0short", "stopped early"),
        (record(b"B", b"x") + record(b"E"), "content of no file"),
        (record(b"F", b"x") + record(b"D", b"d") + record(b"B", b"x"), "content of no file"),
        (record(b"L", b"link\0/etc/passwd") + record(b"E"), "unknown kind"),
        (record(b"C", b"no separator") + record(b"E"), "without an original"),
        (b"B" + struct.pack("<I", MAX_RECORD_BYTES + 1), "too long"),
        (b"B\xff\xff\xff\xff", "too long"),
        (record(b"P", b"\x1b[2Jgone") + record(b"E"), "cannot be shown"),
        (record(b"P", b"two\nlines") + record(b"E"), "cannot be shown"),
        (record(b"P", b"x" * 1001) + record(b"E"), "cannot be shown"),
        (record(b"P", b"x") * 100 + record(b"E"), "too many problems"),
    ],
)
def test_what_is_no_answer_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    assert why in problems(tmp_path / "out", BytesIO(data))


def test_reported_problems_are_passed_on_by_name(tmp_path: Path) -> None:
    data = stream((b"F", b"x"), (b"P", b"first"), (b"P", b"second"))
    assert problems(tmp_path / "out", data) == "entry: first\nentry: second"


def test_what_follows_the_end_is_not_read(tmp_path: Path) -> None:
    data = BytesIO(stream((b"F", b"x")).getvalue() + record(b"F", b"y"))
    receive(data, tmp_path / "out", name="entry")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x"]


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        receive(stream((b"F", b"mine")), tmp_path, name="entry")
    assert (tmp_path / "mine").read_bytes() == b"precious"


class Dribble(RawIOBase):
    """A pipe that hands over one byte at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = iter(data)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        byte = next(self._data, None)
        if byte is None:
            return 0
        buffer[0] = byte
        return 1

    def readable(self) -> bool:
        return True


def test_a_pipe_may_hand_over_little_at_a_time(tmp_path: Path) -> None:
    data = stream((b"F", b"x"), (b"B", b"content")).getvalue()
    receive(Dribble(data), tmp_path / "out", name="entry")  # type: ignore[arg-type]
    assert (tmp_path / "out/x").read_bytes() == b"content"


BESIDE_A_SMALL_DISK = """
    import sys
    from pathlib import Path
    from advcomp.errors import InvalidSubmission
    from advcomp.rules.receive import receive
    folder = Path(sys.argv[1], "out")
    try:
        receive(sys.stdin.buffer, folder, name="entry", max_bytes=int(sys.argv[2]))
    except (InvalidSubmission, OSError) as error:
        print(error)
    print(folder.exists())
"""


@pytest.mark.parametrize(
    ("max_bytes", "told"),
    [
        (3 << 20, "[Errno 28] No space left on device"),
        ((3 << 20) - 1, "entry: cannot be unpacked: there are more bytes than a submission may"),
    ],
)
@pytest.mark.parametrize(
    "records",
    [
        ((b"F", b"x"), *[(b"B", bytes(1 << 19))] * 6),
        ((b"F", b"x"), *[(b"B", bytes(1 << 19))] * 3, (b"D", b"a"), (b"C", b"a/y\0x")),
    ],
    ids=["content", "copies"],
)
def test_a_full_disk_is_the_matter_of_an_entry_only_beyond_its_limit(
    require: Callable[[str], None],
    tmp_path: Path,
    records: tuple[tuple[bytes, bytes], ...],
    max_bytes: int,
    told: str,
) -> None:
    """The disk has 1 MiB: full long before all is counted."""
    require("bubblewrap")
    walls = ["bwrap", "--dev-bind", "/", "/", "--size", str(1 << 20), "--tmpfs", str(tmp_path)]
    program = [sys.executable, "-c", dedent(BESIDE_A_SMALL_DISK), str(tmp_path), str(max_bytes)]
    done = subprocess.run(
        [*walls, *program], input=stream(*records).getvalue(), capture_output=True, check=True
    )
    said, left = done.stdout.decode().splitlines()
    assert said.startswith(told)
    assert left == "False"
