"""The file that says what labels mean."""

from pathlib import Path

import pytest

from advcomp.errors import InvalidConfig
from advcomp.rules.class_names import read_class_names


def test_names_are_read_by_label(tmp_path: Path) -> None:
    file = tmp_path / "classes.csv"
    file.write_text('\ufeff1,tench\n\n2, goldfish \n3,"shark, white"\n', encoding="utf-8")
    assert read_class_names(file) == {1: "tench", 2: "goldfish", 3: "shark, white"}


def test_all_wrong_lines_are_told(tmp_path: Path) -> None:
    file = tmp_path / "classes.csv"
    file.write_text(
        "label,name\n1,tench\n1,goldfish\n2,shark, white\n4,\n32767,x\n" + "9" * 5000 + ",y\n"
    )
    with pytest.raises(InvalidConfig) as caught:
        read_class_names(file)
    told = [problem.removeprefix(f"{file}:") for problem in caught.value.problems]
    expected = "expected label,name such as 2,goldfish"
    assert told == [
        f'1: {expected}; "label" is no label from 0 to 32766',
        f"3: {expected}; label 1 stands twice",
        f"4: {expected}; got 3 columns; quote a name that has a comma",
        f"5: {expected}; a name has 1 to 100 characters; got 0",
        f'6: {expected}; "32767" is no label from 0 to 32766',
        f'7: {expected}; "{"9" * 5000}" is no label from 0 to 32766',
    ]
    with pytest.raises(InvalidConfig, match=r"nowhere\.csv: expected a CSV.*; No such file"):
        read_class_names(tmp_path / "nowhere.csv")
