"""A case: a hostile or broken entry and what the referee must make of it."""

from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from support.contest import Contest

from advcomp.rules.verdict import Verdict

KIT = Path(__file__).with_name("kit.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One entry and its expected end.

    Args:
        name: What it tries; the entry's name.
        program: Python that follows `from kit import *`, or any program that begins with `#!`.
        verdicts: The verdicts that are right; more than one where the tier of limits or the
            machine's speed decides which limit is met first.
        valid: How many of its images or labels are valid; None where that may vary.
        missing: The same, as a number that is missing (a defense's images are many).
        note: A regular expression that the verdict's note must match.
        exit_code, signal: How the program must have ended; None where it does not matter.
    """

    name: str
    program: str
    verdicts: tuple[Verdict, ...]
    kind: str = "attack"
    valid: int | None = None
    missing: int | None = None
    note: str = ""
    exit_code: int | None = None
    signal: int | None = None

    def write(self, contest: Contest) -> Path:
        """Make the entry."""
        program = dedent(self.program)
        if not program.startswith("#!"):
            program = f"#!/usr/bin/env python3\nimport os\nfrom kit import *\n{program}"
        folder = contest.entry(self.name, program, self.kind)
        (folder / "kit.py").write_bytes(KIT.read_bytes())
        return folder
