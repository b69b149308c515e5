"""What an attack is told of an image's class where nobody tells it the right one."""

from enum import StrEnum


class LabelKind(StrEnum):
    """The likeliest class alone, or all of them with their probabilities (`objectives`)."""

    HARD = "hard"
    SOFT = "soft"
