"""Why an output counts for nothing: a closed vocabulary, and numbers; never a stranger's words.

What a submission wrote is decoded in a box that may be in the submission's hands, and results go
to people who trust them. So a reason is one of `Fault`, in a byte where it comes from a box, and
what is told with it is a number or a word of ours.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from advcomp.errors import InvalidImage

__all__ = ["Fault", "InvalidPng", "Reason", "tell"]

GROUPS_TOLD = 8


class Fault(StrEnum):
    """What can be wrong with one image, or with one label, of those that were asked for."""

    ABSENT = "absent"
    NO_FILE = "no-file"
    TOO_LARGE = "too-large"
    FORMAT = "format"
    HEADER = "header"
    COLOUR = "colour"
    SIZE = "size"
    TRUNCATED = "truncated"
    CHECKSUM = "checksum"
    CHUNKS = "chunks"
    DATA = "data"
    UNDECODED = "undecoded"
    NO_RESULT = "no-result"
    NO_LINE = "no-line"
    NO_NUMBER = "no-number"
    CONTRADICTED = "contradicted"
    IN_A_FOLDER = "in-a-folder"
    NO_COMMA = "no-comma"

    @property
    def code(self) -> int:
        """The byte that stands for it in a decoder's answer, from 16 on."""
        return _FIRST_CODE + list(Fault).index(self)

    @classmethod
    def of_code(cls, code: int) -> "Fault | None":
        """What a byte stands for; None where it stands for none of these."""
        faults = list(cls)
        place = code - _FIRST_CODE
        return faults[place] if 0 <= place < len(faults) else None


_FIRST_CODE = 16

_PLAIN = {
    Fault.ABSENT: "not there",
    Fault.NO_FILE: "no plain file",
    Fault.TOO_LARGE: "larger than any file that is read as an image",
    Fault.FORMAT: "in another format, expected PNG",
    Fault.HEADER: "damaged at the start: no whole PNG header",
    Fault.COLOUR: "of another kind, expected 8-bit RGB without alpha",
    Fault.SIZE: "of another size than the input; images are never resized",
    Fault.TRUNCATED: "truncated",
    Fault.CHECKSUM: "damaged: a checksum is wrong",
    Fault.CHUNKS: "no PNG as the standard has it: wrong chunks",
    Fault.DATA: "damaged: the pixel data cannot be read",
    Fault.UNDECODED: "such that the decoder died of it",
    Fault.NO_RESULT: "not there: there is no file result.csv, or it is too large or no plain file",
    Fault.NO_LINE: "not there: no line <file name>,<label> names the image",
    Fault.NO_NUMBER: "no whole number of 1 to 6 digits",
    Fault.CONTRADICTED: "given twice, and differ",
    Fault.IN_A_FOLDER: "behind a path, expected the file name alone",
    Fault.NO_COMMA: "in a line without a comma, expected <file name>,<label>",
}
"""Each as a predicate: "3 images are ..."."""

_DETAILED = {
    Fault.FORMAT: "{detail}, expected PNG",
    Fault.COLOUR: "{detail}, expected 8-bit RGB without alpha",
    Fault.SIZE: "{detail}, expected {size}; images are never resized",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one image or label is not valid.

    Args:
        detail: More about it: a word of ours, or numbers.
    """

    fault: Fault
    detail: str = ""


class InvalidPng(InvalidImage):
    """An image file is not an 8-bit RGB PNG of the expected size, for one of the known reasons."""

    def __init__(self, fault: Fault, problem: str, detail: str = "") -> None:
        super().__init__(problem)
        self.reason = Reason(fault, detail)


def tell(reasons: Iterable[Reason], noun: str, size: str = "") -> tuple[str, ...]:
    """Sentences such as `10 images are 224x224, expected 299x299`, the most frequent first.

    Args:
        noun: What the reasons are about, in the singular.
        size: Width x height of the images that were asked for.
    """
    groups = Counter(reasons).most_common()
    rest = sum(number for _, number in groups[GROUPS_TOLD:])
    more = (f"{_counted(rest, noun)} not valid for other reasons",) if rest else ()
    return (
        *(f"{_counted(n, noun)} {_predicate(reason, size)}" for reason, n in groups[:GROUPS_TOLD]),
        *more,
    )


def _predicate(reason: Reason, size: str) -> str:
    if reason.detail and reason.fault in _DETAILED:
        return _DETAILED[reason.fault].format(detail=reason.detail, size=size)
    return _PLAIN[reason.fault]


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{' is' if number == 1 else 's are'}"
