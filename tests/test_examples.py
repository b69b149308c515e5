"""The examples in docstrings do what they say."""

import doctest
import re
from importlib import import_module
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "advcomp"
EXAMPLES = [
    ".".join(["advcomp", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(
        ".__init__"
    )
    for path in sorted(PACKAGE.rglob("*.py"))
    if re.search(r"^ +>>> ", path.read_text(encoding="utf-8"), re.MULTILINE)
]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_does_what_it_says(name: str) -> None:
    found = doctest.testmod(import_module(name))
    assert found.attempted > 0
    assert found.failed == 0


def test_players_scores_and_rules_have_examples() -> None:
    assert {"players", "scoring", "rules"} <= {
        name.split(".")[1] for name in EXAMPLES if "." in name
    }
