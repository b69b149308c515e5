"""What an audit found, and which of it is flagged.

Every finding is stated with its size and interval, flagged or not. Those that come from a test
are judged together: on honest entries an audit flags any of them with a probability of at most
`LEVEL`, however many entries and checks there are. Those that state a fact (the same answer for
every image, the same files twice) are flagged by what they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from advcomp.rules.verdict import Verdict
from advcomp.scoring.audit.change import Change, holm

LEVEL = 0.01
"""How likely an audit of honest entries flags anything by a test, over all its tests together."""

TOLERANCE = 0.01
"""Share of labels or images that rounding may change where the same images are shown."""
TOLERANCE_NUDGED = 0.05
"""The same where pixels of clean images were moved by one level."""


class AuditCheck(StrEnum):
    """What an audit looks for; the names that `[audit] refuse` takes."""

    AGAIN = "again"
    RENAMED = "renamed"
    REORDERED = "reordered"
    SUBSET = "subset"
    MIXED = "mixed"
    ALONE = "alone"
    BATCHES = "batches"
    UNTOUCHED = "untouched"
    NUDGED = "nudged"
    GAIN = "gain"
    CONSTANT = "constant"
    IDENTICAL = "identical"
    NEAR_IDENTICAL = "near-identical"
    OWN_PAIR = "own-pair"


class Measure(StrEnum):
    """What the size of a finding is."""

    LABELS_CHANGED = "share of labels that differ"
    IMAGES_CHANGED = "share of images that differ"
    CORRECT = "difference of the rate of right answers"
    PERTURBATION = "difference of the mean perturbation, in pixel levels"
    WINS = "difference of the rate of wins"
    TOP_LABEL = "share of the commonest answer"
    AGREEMENT = "share of telling answers that are equal"
    VALUES = "share of telling pixel values that are equal"
    WEAKER = "share of images moved twice as far, less that of those moved half as far"
    INTERACTION = "own pairs' rate less what the other pairs let expect"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Args:
        entry: Whose it is.
        other: The second entry, where it is about two.
        change: Its size, with interval; `change.p` counts where `is_tested`.
        is_tested: Whether it is flagged by a test, together with all others.
        flagged: Whether it is.
        note: What else is to be known, in words of ours.
    """

    check: AuditCheck
    entry: str
    other: str | None = None
    measure: Measure
    change: Change
    is_tested: bool = False
    flagged: bool = False
    note: str = ""


def judged(findings: Sequence[Finding], level: float = LEVEL) -> tuple[Finding, ...]:
    """The findings, with those of tests flagged that are significant together."""
    tested = [place for place, finding in enumerate(findings) if finding.is_tested]
    significant = holm([findings[place].change.p for place in tested], level)
    flagged = {place for place, is_so in zip(tested, significant, strict=True) if is_so}
    return tuple(
        replace(finding, flagged=place in flagged) if finding.is_tested else finding
        for place, finding in enumerate(findings)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """An entry as it was audited."""

    name: str
    digest: str
    randomised: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRecord:
    """One replay and how it ended.

    Args:
        job: The run that was done again.
        images: Images that were shown.
    """

    entry: str
    stage: str
    check: AuditCheck
    job: str
    images: int
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """An audit of a run: what was done, and all that was found.

    Args:
        format: Version of the layout of `audit.json`.
        key_digest: Of the run's key: whose audit this is.
        share: Of each defense's shards and each attack's jobs that were replayed.
        level: How likely honest entries are flagged by any test.
        began, audited: The days of the run's first start and of the audit, in UTC.
        not_tried: Conditions that were asked for and could not be tried, and why.
    """

    format: Literal[1] = 1
    advcomp: str
    tournament: str
    key_digest: str
    share: float
    level: float = LEVEL
    tolerance: float = TOLERANCE
    tolerance_nudged: float = TOLERANCE_NUDGED
    began: str
    audited: str
    entries: tuple[Audited, ...]
    replays: tuple[ReplayRecord, ...]
    not_tried: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def flagged(self) -> tuple[Finding, ...]:
        """What an organiser should look at first."""
        return tuple(finding for finding in self.findings if finding.flagged)
