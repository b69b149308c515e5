"""The three kinds of submission; their names are those of metadata.json and of the tracks."""

from enum import StrEnum


class SubmissionType(StrEnum):
    """What a submission does."""

    ATTACK = "attack"
    TARGETED_ATTACK = "targeted_attack"
    DEFENSE = "defense"
