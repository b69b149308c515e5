"""`advcomp audit` in a terminal: progress, then what was found."""

import shlex
import sys
from dataclasses import replace

from advcomp.errors import INTERRUPTED
from advcomp.rules.verdict import Verdict
from advcomp.scoring.audit.finding import Audit, AuditCheck
from advcomp.scoring.audit.finding_wording import flag, measured, p_value, rates
from advcomp.terminal.console_tables import show, table_of
from advcomp.terminal.interrupts import stopping_on_signals
from advcomp.terminal.run_command import PROVISIONAL, near
from advcomp.terminal.run_progress import display_on
from advcomp.terminal.text import count
from advcomp.tournament.audit.audit_run import AuditOptions, audit_run
from advcomp.tournament.audit.record import FILE_NAME, as_json
from advcomp.tournament.job.executors import Stop
from advcomp.tournament.runner import rescore
from advcomp.tournament.store.state import load_state


def audit_in_terminal(options: AuditOptions, *, json: bool) -> int:
    """Audit a run, and print what was found; returns the exit code.

    Raises:
        AdvcompError: See `audit_run`.
    """
    options = replace(options, run=options.run.resolve())
    again = shlex.join(["advcomp", "audit", str(near(options.run))])
    stop = Stop()
    with stopping_on_signals(stop, again), display_on(sys.stderr) as display:
        audit = audit_run(options, display, stop)
    if audit is None:
        print(f"stopped; nothing was written; to audit again: {again}", file=sys.stderr)
        return INTERRUPTED
    if load_state(options.run).audit.refuse:
        rescore(options.run)
    print(as_json(audit), end="") if json else _print(audit, options)
    failed = any(record.verdict is Verdict.INFRA for record in audit.replays)
    return PROVISIONAL if failed else 0


def _print(audit: Audit, options: AuditOptions) -> None:
    show(
        table_of(
            {
                "check": False,
                "entry": False,
                "with": False,
                "what": False,
                "of": True,
                "size [95 %]": True,
                "p": True,
                "": False,
            },
            [
                (
                    finding.check,
                    finding.entry,
                    finding.other or "",
                    finding.measure,
                    f"{finding.change.units:,}",
                    measured(finding),
                    p_value(finding),
                    flag(finding),
                )
                for finding in sorted(audit.findings, key=lambda each: not each.flagged)
            ],
        )
    )
    for finding in audit.findings:
        if finding.note and (finding.flagged or finding.change.size):
            print(f"{finding.entry}, {finding.check}: {finding.note}")
    for line in audit.not_tried:
        print(f"not tried: {line}")
    print(rates(audit))
    print(
        f"{count(len(audit.flagged), 'finding')} flagged of {len(audit.findings):,}, "
        f"{count(len(audit.replays), 'replay')}: {near(options.run / FILE_NAME)}"
    )
    print(_scores(options))


def _scores(options: AuditOptions) -> str:
    """What the audit does to scores, in words."""
    refuse: tuple[AuditCheck, ...] = load_state(options.run).audit.refuse
    if not refuse:
        return "no score has changed; [audit] refuse in the tournament file could ask for that"
    return f"entries flagged for {', '.join(refuse)} are left out of the results, as [audit] says"
