"""What a defense wrote: a stranger's CSV, read line by line with a rule for every oddity.

The reader is Python's own `csv.reader` over the whole file, as in 2017, so quotes and line ends
mean what they meant then. It is bounded: a field of more than 131,072 characters, such as what an
unclosed quote swallows, is an error of its line, after which it starts afresh with the next.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from io import BytesIO, TextIOWrapper

import numpy as np
from numpy.typing import NDArray

from advcomp.rules.faults import Fault
from advcomp.rules.labels import MISSING, OUT_OF_RANGE

_LABEL = re.compile(r"[ \t]*[0-9]{1,6}[ \t]*", re.ASCII)
_SEPARATORS = re.compile(r"[;\t ]")
"""What spreadsheets put between cells where a comma stands in numbers."""
_EXTENSIONS = (".png", ".jpg")


def parse_predictions(data: bytes, names: Sequence[str]) -> NDArray[np.int16]:
    """The label of each of `names` in a defense's result.csv; `MISSING` where there is none.

    A line counts if it has at least two cells, the first an expected name, the second a label.
    Every other line is ignored. Two labels for one name make it missing; one label twice does not.

    Args:
        data: UTF-8, with or without a byte order mark; a cell that is not UTF-8 matches nothing.
        names: Distinct file names without extension.
    """
    return _read(data, names)[0]


def label_faults(data: bytes, names: Sequence[str]) -> tuple[Fault | None, ...]:
    """Why each of `names` has no label in a defense's result.csv; None where it has one."""
    return _read(data, names)[1]


def _read(data: bytes, names: Sequence[str]) -> tuple[NDArray[np.int16], tuple[Fault | None, ...]]:
    positions = {name: i for i, name in enumerate(names)}
    labels: dict[int, set[int]] = {}
    clues: dict[int, Fault] = {}
    for row in _rows(data):
        if len(row) == 1:
            position = positions.get(_without_extension(_SEPARATORS.split(row[0], maxsplit=1)[0]))
            if position is not None:
                clues.setdefault(position, Fault.NO_COMMA)
            continue
        name = _without_extension(row[0]) if row else ""
        position = positions.get(name)
        if position is None:
            position = positions.get(re.split(r"[/\\]", name)[-1])
            if position is not None:
                clues[position] = Fault.IN_A_FOLDER
        elif _LABEL.fullmatch(row[1]):
            labels.setdefault(position, set()).add(int(row[1]))
        else:
            clues.setdefault(position, Fault.NO_NUMBER)
    answer = np.full(len(names), MISSING, np.int16)
    for position, given in labels.items():
        if len(given) == 1:
            answer[position] = min(*given, OUT_OF_RANGE)
        else:
            clues[position] = Fault.CONTRADICTED
    return answer, tuple(
        clues.get(i, Fault.NO_LINE) if label == MISSING else None
        for i, label in enumerate(answer.tolist())
    )


def _rows(data: bytes) -> Iterator[list[str]]:
    # Bytes that are not UTF-8 become lone surrogates, which no name and no label contains.
    text = TextIOWrapper(BytesIO(data), "utf-8-sig", errors="surrogateescape", newline="")
    reader = csv.reader(text)
    while True:
        try:
            yield next(reader)
        except csv.Error:
            continue
        except StopIteration:
            return


def _without_extension(name: str) -> str:
    return name[:-4] if name.endswith(_EXTENSIONS) else name
