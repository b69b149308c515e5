"""What the program that reads metadata.json in a box (`metadata.py`) printed, as we take it."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from advcomp.errors import InvalidSubmission
from advcomp.rules.metadata import (
    FILE_NAME,
    IMAGE_NAME,
    MAX_ANSWER_BYTES,
    MAX_ENTRY_POINT,
    MAX_SENTENCES,
)
from advcomp.rules.paths import path_fault
from advcomp.rules.submission_type import SubmissionType

_Image = Annotated[str, StringConstraints(pattern=f"^{IMAGE_NAME.pattern}$")]
_Sentence = Annotated[str, StringConstraints(pattern="^[ -~]{1,800}$")]


class Metadata(BaseModel):
    """What a submission says about itself.

    Args:
        type: Attack, targeted attack or defense.
        container: Image to run in where containers are used; `container_gpu` where absent.
        container_gpu: Image for a machine with a GPU; `container` where absent.
        entry_point: Path of the program from the submission's root, in normal form.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: SubmissionType
    container: _Image | None = None
    container_gpu: _Image | None = None
    entry_point: Annotated[str, StringConstraints(min_length=1, max_length=MAX_ENTRY_POINT)]


class MetadataAnswer(BaseModel):
    """What the program prints: the metadata, or problems; and notes in any case."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    metadata: Metadata | None = None
    notes: Annotated[tuple[_Sentence, ...], Field(max_length=MAX_SENTENCES + 1)] = ()
    problems: Annotated[tuple[_Sentence, ...], Field(max_length=MAX_SENTENCES + 1)] = ()


def read_metadata_answer(answer: bytes, name: str) -> tuple[Metadata, tuple[str, ...]]:
    """The metadata and the notes that the program printed.

    Args:
        answer: Its standard output.
        name: What messages call the submission.

    Raises:
        InvalidSubmission: The problems that it found, or it did not get to the end of its line.
    """
    try:
        if len(answer) > MAX_ANSWER_BYTES:
            raise ValueError("too long")
        parsed = MetadataAnswer.model_validate_json(answer)
    except ValueError as error:
        raise InvalidSubmission(f"{name}/{FILE_NAME}: cannot be read in a sandbox") from error
    if parsed.metadata is None or parsed.problems or path_fault(parsed.metadata.entry_point):
        problems = parsed.problems or (f"{FILE_NAME}: cannot be read in a sandbox",)
        raise InvalidSubmission(*(f"{name}/{problem}" for problem in problems))
    return parsed.metadata, tuple(f"{name}/{note}" for note in parsed.notes)
