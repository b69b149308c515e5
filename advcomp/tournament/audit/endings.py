"""Replays that met a limit: told, and not compared."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from advcomp.rules.verdict import Verdict
from advcomp.scoring.audit.finding import AuditCheck
from advcomp.tournament.audit.conduct import Replayed

LIMITS = {
    *(Verdict.INFRA, Verdict.OUT_OF_MEMORY, Verdict.TIMED_OUT),
    *(Verdict.DISK_LIMIT, Verdict.OUTPUT_LIMIT),
}
"""Ends that may say more about the machine than about answers."""


class Endings:
    """How many replays of an entry met a limit, under each condition."""

    def __init__(self) -> None:
        self._met: dict[tuple[str, AuditCheck], Counter[Verdict]] = defaultdict(Counter)

    def compare(self, done: Replayed) -> bool:
        """Whether a replay is to be compared; one that is not is counted."""
        is_met = done.result.verdict in LIMITS
        if is_met:
            met = self._met[done.replay.job.entry.name, done.replay.check]
            met[done.result.verdict] += 1
        return not is_met

    def note(self, entry: str, check: AuditCheck) -> str:
        """What is to be said beside a finding; empty where there is nothing."""
        met = self._met.get((entry, check), Counter())
        listed = ", ".join(f"{count} {verdict}" for verdict, count in sorted(met.items()))
        return f"replays that are not compared: {listed}" if met else ""

    def lines(self) -> Iterator[str]:
        """All of it, one line for an entry and a condition."""
        for entry, check in sorted(self._met):
            yield f"{entry}, {check}: {self.note(entry, check)}"
