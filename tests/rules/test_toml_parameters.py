"""What is said of parameters in TOML files."""

from pathlib import Path

import pytest

from advcomp.rules.toml_file import shown_value
from advcomp.rules.toml_parameters import Value, parameter_problems


@pytest.mark.parametrize(
    ("known", "given", "said"),
    [
        ({"size": int}, {"size": 3}, []),
        ({}, {"sise": 3}, ['f.toml: [t] sise: expected a parameter of "blur": it has none']),
        (
            {"size": int, "sigma": float},
            {"sise": 3},
            [
                'f.toml: [t] sise: expected a parameter of "blur": size, sigma; '
                'the nearest is "size"'
            ],
        ),
        ({"size": int}, {"size": "3"}, ['f.toml: [t] size: expected int; got "3"']),
        (
            {"size": int, "sigma": float | None},
            {"size": 1.5, "sigma": True},
            [
                "f.toml: [t] size: expected int; got 1.5",
                "f.toml: [t] sigma: expected float | None; got true",
            ],
        ),
    ],
)
def test_each_wrong_parameter_is_told(
    tmp_path: Path, known: dict[str, object], given: dict[str, Value], said: list[str]
) -> None:
    file = tmp_path / "f.toml"
    file.touch()
    problems = parameter_problems(file, "blur", known, given, ("t",))
    assert [problem.removeprefix(f"{tmp_path}/") for problem in problems] == said


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x" * 78, f'"{"x" * 78}"'),
        ("x" * 79, f'"{"x" * 79}...'),
        ([1, "é", True], '[1, "é", true]'),
    ],
)
def test_a_value_is_shown_up_to_80_characters(value: object, shown: str) -> None:
    assert shown_value(value) == shown
