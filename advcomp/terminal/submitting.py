"""`advcomp init` and `advcomp submit`: begin a submission, and hand it in."""

import shlex
from pathlib import Path

from advcomp.terminal.run_command import near
from advcomp.terminal.validating import INVALID, VALID, validate_entry
from advcomp.tournament.competitor.starter import Starter, Template, write_starter
from advcomp.tournament.competitor.submit import keep, make_offer, refuse_unplayable
from advcomp.tournament.competitor.validate import validator_of


def init_in_terminal(kind: str, folder: Path, template: str) -> None:
    """Write a starter, and say what to do next.

    Raises:
        InvalidConfig: The folder is there, and not empty; or there is no such starter.
    """
    write_starter(Starter(kind), folder, Template(template))
    shown = near(folder.resolve())
    print(f"{shown}: a starter; its README.md says how to go on")
    quoted = shlex.quote(str(shown))
    print(f"next: advcomp validate {quoted}, then advcomp practice {quoted}")


def submit_in_terminal(path: Path, file: Path, name: str | None, team: str | None) -> int:
    """Validate a submission as the tournament would, and keep it; returns the exit code.

    Raises:
        AdvcompError: See `make_offer`, `refuse_unplayable`, `validator_of` and `keep`.
    """
    offer = make_offer(path, file, name=name, team=team)
    with validator_of(offer.target) as validator:
        entry = validator.take(offer.source)
        refuse_unplayable(offer, entry)
        if not validate_entry(validator, entry):
            return INVALID
        kept = keep(offer, entry, validator.copy_of(entry))
    print(f"{'was submitted already' if kept.again else 'submitted'}: {near(kept.archive)}")
    print(f"digest: {kept.digest}")
    return VALID
