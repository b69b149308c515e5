"""images.csv: which image has which label, columns by name, every problem with its line."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from advcomp.rules.labels import LARGEST_LABEL
from advcomp.rules.plain_file import read_plain_file

IMAGE_ID_PATTERN = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
"""What an ImageId must match: a file name without `.png` that means the same everywhere."""

_COLUMNS = ("ImageId", "TrueLabel", "TargetClass")
_REQUIRED = _COLUMNS[:2]
_LABEL = re.compile(r"[0-9]{1,5}", re.ASCII)
_SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRow:
    """One line of images.csv; `target_class` is None where there is no such column."""

    line: int
    image_id: str
    label: int
    target_class: int | None


def read_image_rows(csv_file: Path, problems: list[str]) -> list[ImageRow]:
    """The rows of images.csv that say something, in its order; `problems` gets all that is wrong.

    A row with a wrong label is returned as well, with label 0, so that its image is not taken for
    one without a row.
    """
    try:
        data = read_plain_file(csv_file)
    except OSError as error:
        problems.append(f"{csv_file}: cannot be read: {error.strerror}")
        return []
    if b"\0" in data:
        problems.append(
            f"{csv_file}: expected UTF-8 text; got bytes that no text has: is it compressed, a "
            "spreadsheet's own format, or UTF-16? Save it as CSV in UTF-8"
        )
        return []
    problems.extend(f"{csv_file}:{fault}" for fault in _encoding_faults(data))
    faults: list[str] = []
    rows = list(_parse(data.decode("utf-8-sig", errors="replace"), faults))
    problems.extend(f"{csv_file}:{fault}" for fault in (*faults, *_duplicates(rows)))
    return rows


def images_csv_text(rows: Sequence[tuple[str, int, int | None]]) -> str:
    """The text of images.csv for rows of (ImageId, label, target class)."""
    width = 2 if all(target is None for _, _, target in rows) else 3
    text = StringIO()
    lines = [_COLUMNS[:width], *(row[:width] for row in rows)]
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def check_image_id(image_id: str) -> str | None:
    """What is wrong with an ImageId; None where nothing is."""
    if re.fullmatch(IMAGE_ID_PATTERN, image_id):
        return None
    return f'"ImageId" must match {IMAGE_ID_PATTERN}; got "{image_id[:_SHOWN]}"'


def _encoding_faults(data: bytes) -> Iterator[str]:
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            line.decode()
        except UnicodeDecodeError:
            yield f"{number}: must be UTF-8; got {line[:_SHOWN]!r}"


def _duplicates(rows: list[ImageRow]) -> Iterator[str]:
    first_lines: dict[str, int] = {}
    for row in rows:
        first = first_lines.setdefault(row.image_id, row.line)
        if first != row.line:
            yield f'{row.line}: ImageId "{row.image_id}" is also in line {first}; keep one of them'


def _parse(text: str, faults: list[str]) -> Iterator[ImageRow]:
    lines = _lines(text, faults)
    number, header = next(lines, (1, []))
    header_faults = [f"{number}: {fault}" for fault in _header_faults(header)]
    faults.extend(header_faults)
    count = 0
    for count, (number, cells) in enumerate(lines, start=1):  # noqa: B007
        if not header_faults:
            row_faults, row = _parse_row(header, cells, number)
            faults.extend(f"{number}: {fault}" for fault in row_faults)
            if row is not None:
                yield row
    if not count:
        faults.append(f"{number}: must be followed by at least one image; got none")


def _lines(text: str, faults: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of every line that is not empty."""
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    while True:
        try:
            cells = next(reader)
        except csv.Error as error:
            faults.append(f"{reader.line_num}: cannot be read as CSV: {error}")
            continue
        except StopIteration:
            return
        if cells:
            yield reader.line_num, cells


def _header_faults(header: list[str]) -> Iterator[str]:
    for column in _COLUMNS:
        times = header.count(column)
        if times > 1:
            yield f'the header has the column "{column}" {times} times; keep one'
    missing = [column for column in _REQUIRED if column not in header]
    if missing:
        line = ",".join(header)
        wanted = " and ".join(f'"{column}"' for column in missing)
        yield (
            f"the header must have the column{'s' * (len(missing) > 1)} {wanted}; "
            f'got "{line[: 4 * _SHOWN]}"; {_remedy(missing, header)}'
        )


def _remedy(missing: list[str], header: list[str]) -> str:
    """What makes a header of one that lacks columns."""
    if len(header) == 1:
        for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
            if separator in header[0]:
                return f"separate cells with commas, not with {name}"
    written = {re.sub("[^a-z]", "", cell.lower()): cell for cell in header}
    alike = {column: written.get(column.lower()) for column in missing}
    if all(alike.values()):
        return "; ".join(f'write "{column}" for "{cell}"' for column, cell in alike.items())
    return f'begin the file with a line "{",".join(_COLUMNS[:2])}"'


def _parse_row(
    header: list[str], cells: list[str], line: int
) -> tuple[list[str], ImageRow | None]:
    """What is wrong with a line, and its row; None where it has no usable ImageId."""
    if len(cells) != len(header):
        return [f"expected {len(header)} cells, as in the header; got {len(cells)}"], None
    named = dict(zip(header, cells, strict=True))
    labels = {column: _label(named[column]) for column in _COLUMNS[1:] if column in named}
    faults = [
        f'"{column}" must be an integer 0..{LARGEST_LABEL}; got "{named[column][:_SHOWN]}"'
        f"{_whole(named[column])}"
        for column, label in labels.items()
        if label is None
    ]
    label, target_class = labels["TrueLabel"], labels.get("TargetClass")
    if label is not None and label == target_class:
        faults.append(f'"TargetClass" must differ from "TrueLabel"; both are {label}')
    image_id = named["ImageId"]
    id_fault = check_image_id(image_id)
    if id_fault is not None:
        return [id_fault, *faults], None
    row = ImageRow(line=line, image_id=image_id, label=label or 0, target_class=target_class)
    return faults, row


def _whole(cell: str) -> str:
    """The integer that a cell such as `3.0` means, for the end of a message."""
    whole, _, zeros = cell.strip().partition(".")
    meant = whole if not zeros.strip("0") and _label(whole) is not None else None
    return f'; write "{meant}"' if meant else ""


def _label(cell: str) -> int | None:
    number = int(cell) if _LABEL.fullmatch(cell) else None
    return None if number is None or number > LARGEST_LABEL else number
