"""Our own files: what is wrong with one is told in its order."""

from pathlib import Path

import pytest
from pydantic import Field

from advcomp.errors import InvalidConfig
from advcomp.rules.toml_file import Table, parse_toml


class Settings(Table):
    steps: int = Field(description="a number")
    name: str = Field(description="words")


def test_problems_stand_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "name = 1\n\nsteps = 'many'\nlast = 2\n"
    with pytest.raises(InvalidConfig) as caught:
        parse_toml(text, tmp_path / "s.toml", Settings)
    told = [problem.removeprefix(f"{tmp_path}/s.toml") for problem in caught.value.problems]
    assert [each.split(":")[1] for each in told] == ["1", "3", "4"]
