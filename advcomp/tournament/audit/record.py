"""`audit.json` in a run's folder, and what `[audit] refuse` makes of it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import TypeAdapter

from advcomp.errors import RunConflict
from advcomp.rules.durable import write_durably
from advcomp.rules.plain_file import read_plain_file
from advcomp.scoring.audit.finding import Audit, AuditCheck, Finding
from advcomp.tournament.store.sealed import fault_of
from advcomp.tournament.store.state import EntryState, RunState

FILE_NAME = "audit.json"

_AUDIT = TypeAdapter(Audit)


def save_audit(run: Path, audit: Audit) -> None:
    """Write `audit.json`; a crash leaves the old one or the new one."""
    write_durably(run / FILE_NAME, as_json(audit).encode())


def as_json(audit: Audit) -> str:
    """An audit as one JSON object."""
    return _AUDIT.dump_json(audit, indent=1).decode() + "\n"


def load_audit(run: Path, state: RunState) -> Audit | None:
    """The audit of a run, as far as it is of the entries that play now; None without one.

    An entry that was changed since it was audited is no longer what the audit speaks of.

    Raises:
        RunConflict: The file is damaged, or of another version of advcomp.
    """
    path = run / FILE_NAME
    if not path.exists():
        return None
    try:
        audit = _AUDIT.validate_json(read_plain_file(path))
    except (OSError, ValueError) as error:
        raise RunConflict(
            f"{path}: expected an audit of this version; got {fault_of(error)}; remove the file, "
            f"or make it again with `advcomp audit {run}`"
        ) from error
    if audit.key_digest != state.key_digest:
        return None
    return replace(audit, findings=_current(audit, state))


def without_refused(state: RunState, run: Path) -> RunState:
    """A run without the entries that its audit flagged for a check that the organiser refuses.

    They are REJECTED, with the reason among their notes; what is stored of them stays.

    Raises:
        RunConflict: See `load_audit`.
    """
    if not state.audit.refuse:
        return state
    audit = load_audit(run, state)
    if audit is None:
        return state
    return state.model_copy(
        update={
            "entries": tuple(
                _judged(entry, _about(entry.name, audit.findings, state.audit.refuse))
                for entry in state.entries
            )
        }
    )


def _judged(entry: EntryState, refused: set[AuditCheck]) -> EntryState:
    if entry.baseline or entry.rejected or not refused:
        return entry
    reason = f"left out by [audit] refuse: {', '.join(sorted(refused))}"
    return entry.model_copy(
        update={"rejected": True, "refused": True, "notes": (*entry.notes, reason)}
    )


def _about(
    name: str, findings: Sequence[Finding], refuse: Sequence[AuditCheck]
) -> set[AuditCheck]:
    """The refused checks that an entry was flagged for, by itself or with another."""
    return {
        finding.check
        for finding in findings
        if finding.flagged and finding.check in refuse and name in (finding.entry, finding.other)
    }


def _current(audit: Audit, state: RunState) -> tuple[Finding, ...]:
    """The findings about entries that are what they were."""
    now = {entry.name: entry.digest for entry in state.entries}
    same = {each.name for each in audit.entries if now.get(each.name) == each.digest}
    return tuple(
        finding for finding in audit.findings if {finding.entry, finding.other} <= {*same, None}
    )
