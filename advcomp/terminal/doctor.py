"""`advcomp doctor`: what works on this machine, and what to do about the rest."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from advcomp.errors import SandboxUnavailable
from advcomp.rules.printable import printable
from advcomp.sandbox.box.shown import interpreter_versions
from advcomp.sandbox.doctor.checks import LIMITS, Check, examine_machine
from advcomp.sandbox.probe import DEFAULT, backend_names


def examine(form: str) -> int:
    """Print every check with its remedy; returns 0, or 4 where the default sandbox fails.

    Args:
        form: `text` or `json`.
    """
    checks = examine_machine()
    print(checks_json(checks) if form == "json" else "\n".join(as_lines(checks)))
    if any(check.works for check in checks if check.name == DEFAULT):
        return 0
    return SandboxUnavailable.exit_code


def print_packages(form: str) -> None:
    """Print the interpreter of boxes without container images, and its packages."""
    versions = interpreter_versions()
    if form == "json":
        print(json.dumps(versions, indent=2))
        return
    print(f"python3 in boxes without images: Python {versions.pop('python')}, with")
    for name, version in versions.items():
        print(printable(f"  {name} {version}"))


def checks_json(checks: Sequence[Check]) -> str:
    """The checks for programs: a list of tables with name, works, version, reason, remedy."""
    return json.dumps([asdict(check) for check in checks], indent=2)


def as_lines(checks: Sequence[Check]) -> Iterator[str]:
    """The checks for people: what can be used in a line, then each; no warning twice."""
    yield _summary(checks)
    sharing: dict[str, list[str]] = {}
    for check in checks:
        for warning in check.warnings:
            sharing.setdefault(warning, []).append(check.name)
    for check in checks:
        reason, *rest = [line.removeprefix(f"{check.name}: ") for line in _lines(check.reason)]
        version = f"version {check.version}, " if check.works and check.version else ""
        yield f"{'ok' if check.works else 'NO':<3} {check.name}: {version}{reason}"
        for line in (*rest, *_marked("remedy", check.remedy)):
            yield f"    {line}"
        for warning in check.warnings:
            first, *others = sharing[warning]
            mark = f"warning (also of {', '.join(others)})" if others else "warning"
            for line in _marked(mark, warning) if first == check.name else ():
                yield f"    {line}"


def _summary(checks: Sequence[Check]) -> str:
    """`ready: bubblewrap, full limits`."""
    working = [check.name for check in checks if check.works]
    limits = "full limits" if LIMITS in working else "weak limits (results are marked so)"
    others = [name for name in working if name in backend_names() and name != DEFAULT]
    if DEFAULT in working:
        also = f"; also {', '.join(others)}" if others else ""
        return f"ready: {DEFAULT}, {limits}{also}"
    if others:
        return f"ready with --sandbox {others[0]} only: {DEFAULT} does not work here"
    return "not ready: no sandbox works here; the remedies are below"


def _marked(mark: str, text: str | None) -> list[str]:
    if text is None:
        return []
    first, *rest = _lines(text)
    return [f"{mark}: {first}", *rest]


def _lines(text: str) -> list[str]:
    return printable(text).splitlines() or [""]
