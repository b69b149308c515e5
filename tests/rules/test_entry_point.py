"""What keeps a script from being started is seen before it is."""

from pathlib import Path

import pytest

from advcomp.rules.entry_point import first_program, start_notes


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (b"#!/bin/bash\r\necho\r\n", "its lines end in CR LF"),
        (b"\xef\xbb\xbf#!/bin/bash\r\necho\r\n", "its lines end in CR LF"),
        (b"\xef\xbb\xbf#!/bin/bash\necho\n", "begins with a byte order mark"),
        (b"cp a b\n", "make its first line #!/bin/bash"),
        (b"", "cannot be started"),
        (b"#!/bin/sh\necho '\r'\n", None),
        (b"#!/bin/sh", None),
        (b"\x7fELF\x02", None),
    ],
)
def test_a_note_says_what_is_wrong_with_an_entry_point(
    content: bytes, note: str | None, tmp_path: Path
) -> None:
    (tmp_path / "run.sh").write_bytes(content)
    notes = start_notes(tmp_path, "run.sh")
    assert [note in found for found in notes] == [True] if note else not notes


def test_other_files_need_no_first_line_but_no_windows_ends_either(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "run.py").write_bytes(b"import sys\n")
    (tmp_path / "weights.bin").write_bytes(b"\0\1")
    for number in range(9):
        (tmp_path / "sub" / f"s{number}.sh").write_bytes(b"#!/bin/sh\r\n")
    first, *rest, last = start_notes(tmp_path, "run.py")
    assert first == '"run.py": cannot be started: it is no program and names none; make its ' + (
        "first line #!/usr/bin/env python3"
    )
    assert len(rest) == 4
    assert last == "and 5 more scripts like these"


def test_the_program_that_a_first_line_names(tmp_path: Path) -> None:
    script = tmp_path / "script"
    for content, program in ((b"#! /usr/bin/ruby -w\n", "/usr/bin/ruby"), (b"#!\n", None),
                             (b"import os", None), (b"#!/bin/sh\r\n", None)):  # fmt: skip
        script.write_bytes(content)
        assert first_program(script) == program
