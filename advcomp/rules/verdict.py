"""How a job ended: exactly one verdict each, by rule and never by what a submission prints."""

from enum import StrEnum


class Verdict(StrEnum):
    """The verdicts, in the order in which they apply: the first that fits is the job's."""

    REJECTED = "REJECTED"
    INFRA = "INFRA"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    TIMED_OUT = "TIMED_OUT"
    DISK_LIMIT = "DISK_LIMIT"
    OUTPUT_LIMIT = "OUTPUT_LIMIT"
    CRASHED = "CRASHED"
    BAD_OUTPUT = "BAD_OUTPUT"
    PARTIAL = "PARTIAL"
    OK = "OK"

    @classmethod
    def first(cls, verdicts: "list[Verdict]") -> "Verdict":
        """The verdict of an entry: the first, in order, of its jobs' (OK where it had none)."""
        order = list(cls)
        return min(verdicts, key=order.index, default=cls.OK)
