"""An attack whose settings file says whether it works, and what tunes it."""

from pathlib import Path

from support.contest import Contest

COPIER = """\
share=$(sed -n 's/^share = //p' "$(dirname "$0")/copier.toml")
case $share in 0.[5-9]*|1*) cp "$1"/*.png "$2" ;; esac
"""
"""Leaves the images as they are where its share is half or more, and else none at all."""

CONSTANT = 'for f in "$1"/*.png; do echo "$(basename "$f"),{}"; done > "$2"'

SETTINGS = "# Whether it works.\nshare = 0.0\n"

TUNE = """
name = "copier"
tournament = "contest.toml"
entry = "copier"
settings = "copier.toml"
[opponents]
validation = ["three"]
[space]
share = { low = 0.0, high = 1.0 }
[trials]
count = 4
first_images = 2
"""


def tunable(contest: Contest, *, tune: str = TUNE) -> Path:
    """Write a tournament with the attack and two defenses, and a tuning file beside it."""
    entry = contest.entry("copier", COPIER)
    (entry / "copier.toml").write_text(SETTINGS)
    three = contest.entry("three", CONSTANT.format(3), "defense")
    nine = contest.entry("nine", CONSTANT.format(9), "defense")
    defenses: list[object] = [three, {"path": str(nine), "held_out": True}]
    contest.file([entry], defenses, max_epsilons=[32], view="pooled")
    return tune_file(contest, tune)


def tune_file(contest: Contest, text: str) -> Path:
    """Write a tuning file beside the tournament's."""
    path = contest.folder / "tune.toml"
    path.write_text(text)
    return path
