"""`advcomp doctor`: what works on this machine, and what to do about the rest."""

from advcomp.errors import SandboxUnavailable
from advcomp.rules.printable import printable
from advcomp.sandbox.probe import DEFAULT, Check, check_machine


def examine() -> int:
    """Print every check with its remedy; returns 0, or 4 where the default sandbox fails."""
    checks = check_machine()
    for check in checks:
        _show(check)
    if any(check.works for check in checks if check.name == DEFAULT):
        return 0
    return SandboxUnavailable.exit_code


def _show(check: Check) -> None:
    first, *rest = printable(check.detail).replace(f"{check.name}: ", "").splitlines() or [""]
    print(f"{'ok' if check.works else 'NO':<3} {check.name}: {first}")
    lines = [*rest]
    if check.remedy is not None:
        remedy, *more = printable(check.remedy).splitlines()
        lines += [f"remedy: {remedy}", *more]
    for line in lines:
        print(f"    {line}")
