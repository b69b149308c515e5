"""Which mutations are tried, and that what is to be mutated is there."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from mutation.sampling import sample

ROOT = Path(__file__).resolve().parents[2]
CODE = """\
import functools
__all__ = ["f"]
@functools.cache
def f(a: int | None, b: int = 1) -> int | None:
    assert a + b
    found: int | str = a | b
    return [*zip([a], [b], strict=True)] if found - 1 else None
"""


@dataclass(frozen=True)
class Planned:
    module_path: Path
    operator_name: str
    occurrence: int
    start_pos: tuple[int, int]
    end_pos: tuple[int, int]


def planned(folder: Path, text: str, kinds: int = 1) -> list[Planned]:
    """Mutations of all places of `CODE` that a text stands at."""
    module = folder / "module.py"
    module.write_text(CODE)
    return [
        Planned(module, f"kind{kind}", 0, (line, column), (line, column + len(text)))
        for line, content in enumerate(CODE.splitlines(), 1)
        for column in range(len(content))
        if content.startswith(text, column)
        for kind in range(kinds)
    ]


@pytest.mark.parametrize(
    ("text", "lines"),
    [("|", [6]), ("+", []), ('"f"', []), ("1", [4, 7]), ("True", []), ("functools.cache", [])],
)
def test_what_no_run_can_tell_is_left_alone(tmp_path: Path, text: str, lines: list[int]) -> None:
    chosen = sample(planned(tmp_path, text), 100, 0)
    assert sorted(mutation.start_pos[0] for mutation in chosen) == lines


def test_a_place_is_mutated_once_however_many_mutations_it_has(tmp_path: Path) -> None:
    many, one = planned(tmp_path, "| b", kinds=1000), planned(tmp_path, "- 1")
    for seed in range(10):
        chosen = sample([*many, *one], 2, seed)
        assert {mutation.start_pos[0] for mutation in chosen} == {6, 7}
    first = {sample([*many, *one], 1, seed)[0].start_pos[0] for seed in range(20)}
    assert first == {6, 7}


def test_a_sample_depends_on_its_seed_alone(tmp_path: Path) -> None:
    mutations = planned(tmp_path, "a", kinds=5)
    chosen = sample(mutations, 3, 1)
    assert sample(mutations[::-1], 3, 1) == chosen
    assert any(sample(mutations, 3, seed) != chosen for seed in range(2, 5))


def test_what_campaigns_name_is_there() -> None:
    text = Path(__file__).with_name("campaigns.toml").read_text("utf-8")
    for name, table in tomllib.loads(text).items():
        assert table["sample"] > 0, name
        for path in [*table["modules"], *table["tests"], *table.get("left_out", [])]:
            file, _, function = path.partition("::")
            assert (ROOT / file).exists(), path
            assert not function or f"def {function}(" in (ROOT / file).read_text("utf-8"), path
