"""Findings in the words that the terminal and the report share."""

from advcomp.scoring.audit.finding import Audit, Finding, Measure

SIGNED = {
    *(Measure.CORRECT, Measure.PERTURBATION, Measure.WINS),
    *(Measure.WEAKER, Measure.INTERACTION),
}
"""Measures that are differences."""


def measured(finding: Finding) -> str:
    """The size of a finding with its interval: `0.250 [0.115, 0.434]`."""
    change = finding.change
    form = "+.3f" if finding.measure in SIGNED else ".3f"
    size, low, high = (
        f"{round(x, 3) + 0.0:{form}}" for x in (change.size, change.low, change.high)
    )
    return f"{size} [{low}, {high}]"


def p_value(finding: Finding) -> str:
    """The chance of as much from an honest entry; nothing where no test was made."""
    return f"{finding.change.p:.2g}" if finding.is_tested else ""


def flag(finding: Finding) -> str:
    """A word for what is flagged."""
    return "FLAGGED" if finding.flagged else ""


def rates(audit: Audit) -> str:
    """What the flags are worth, as a sentence."""
    tests = sum(finding.is_tested for finding in audit.findings)
    return (
        f"{tests:,} tests: the chance that any of them flags an honest entry is at most "
        f"{audit.level:.0%} (Holm); honest is what changes at most {audit.tolerance:.0%} of its "
        f"answers, {audit.tolerance_nudged:.0%} where pixels were moved"
    )
