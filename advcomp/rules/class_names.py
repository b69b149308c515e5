"""Names of classes for people: a CSV that says what a label means. Nothing is scored by it."""

import csv
from io import TextIOWrapper
from pathlib import Path

from advcomp.errors import InvalidConfig
from advcomp.rules.labels import LARGEST_LABEL
from advcomp.rules.plain_file import open_plain_file, told

MOST_CHARACTERS = 100


def read_class_names(file: Path) -> dict[int, str]:
    """Read lines `label,name` without a header, such as `2,goldfish`.

    Raises:
        InvalidConfig: The file cannot be read, or all lines that are wrong.
    """
    try:
        with TextIOWrapper(open_plain_file(file), encoding="utf-8-sig", newline="") as lines:
            rows = list(csv.reader(lines))
    except (OSError, ValueError, csv.Error) as error:
        raise InvalidConfig(
            f"{file}: expected a CSV of lines label,name such as 2,goldfish; {told(error)}"
        ) from error
    names: dict[int, str] = {}
    problems = []
    for number, row in enumerate(rows, start=1):
        if not row:
            continue
        if wrong := _wrong(row, names):
            problems.append(f"{file}:{number}: expected label,name such as 2,goldfish; {wrong}")
        else:
            names[int(row[0])] = row[1].strip()
    if problems:
        raise InvalidConfig(*problems)
    return names


def _wrong(row: list[str], names: dict[int, str]) -> str:
    """What is wrong with a line; nothing where it is right."""
    if len(row) != 2:
        return f"got {len(row)} columns; quote a name that has a comma"
    label, name = (cell.strip() for cell in row)
    if not (
        label.isascii() and label.isdecimal() and len(label) < 9 and int(label) <= LARGEST_LABEL
    ):
        return f'"{label}" is no label from 0 to {LARGEST_LABEL}'
    if int(label) in names:
        return f"label {label} stands twice"
    if not 0 < len(name) <= MOST_CHARACTERS:
        return f"a name has 1 to {MOST_CHARACTERS} characters; got {len(name)}"
    return ""
