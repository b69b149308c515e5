"""The rulebook says what the program does: tables and numbers that both of them hold."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from advcomp.cli import main
from advcomp.rules import png, sizes
from advcomp.rules.verdict import Verdict
from advcomp.scoring.leaderboard import COLUMNS
from advcomp.scoring.results import JobRecord
from advcomp.scoring.scores import Absence
from advcomp.tournament.amounts import parse_size
from advcomp.tournament.competitor import validate
from advcomp.tournament.config import LimitsTable, LogPolicy, Tournament
from advcomp.tournament.entry.entries import SubmittedEntries
from advcomp.tournament.job import defense_views as views
from advcomp.tournament.job import ingest, plan, work
from advcomp.tournament.outcome import disclosure

TEXT = (Path(__file__).resolve().parents[2] / "tournament" / "README.md").read_text()
PROSE = " ".join(TEXT.split())
EXAMPLES = [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)]


def section(title: str) -> str:
    """The text of a section, its heading left out."""
    _, _, rest = TEXT.partition(f" {title}\n")
    assert rest, title
    return re.split(r"^##", rest, maxsplit=1, flags=re.MULTILINE)[0]


def first_column(text: str) -> list[str]:
    """The names in the first column of the tables of a text."""
    return re.findall(r"^\| `([^`]*)` \|", text, re.MULTILINE)


def test_the_verdicts_stand_in_their_order() -> None:
    assert first_column(section("6. Verdicts")) == list(Verdict)


def test_the_limits_are_all_there_with_their_defaults() -> None:
    written = re.findall(r"^\| `(\w+)` \| (\S.*?) \|", section("5. Limits"), re.MULTILINE)
    limits = {
        name: parse_size(value.strip('"')) if value.startswith('"') else float(value)
        for name, value in written
    }
    assert limits == LimitsTable().model_dump()


def test_the_example_is_a_tournament_file_of_defaults() -> None:
    example, _ = sorted(EXAMPLES, key=len, reverse=True)
    tournament = Tournament.model_validate(example, context=Path("/t/spring.toml"))
    plain = {"name": "spring", "dataset": {"source": "digits"}}
    defaults = Tournament.model_validate(plain, context=Path("/t/spring.toml"))
    for table in ("threat", "sandbox", "limits", "defense", "scoring", "logs", "audit"):
        assert getattr(tournament, table) == getattr(defaults, table)
    assert set(example) == set(Tournament.model_fields)
    assert set(example["dataset"]) == set(type(tournament.dataset).model_fields)


def test_the_example_of_a_submission_has_the_keys_that_are_read() -> None:
    _, example = sorted(EXAMPLES, key=len, reverse=True)
    example["entry"][0] |= {"digest": "0" * 64}
    SubmittedEntries.model_validate(example)


def test_every_command_is_explained() -> None:
    told = {line.split()[0] for line in first_column(section("Commands"))}
    told |= set(re.findall(r"^advcomp (\w+)", TEXT, re.MULTILINE))
    assert set(main.commands) - {"train"} <= told


@pytest.mark.parametrize(
    "columns", [",".join(COLUMNS), ",".join(field.name for field in fields(JobRecord))]
)
def test_the_columns_of_the_tables_are_right(columns: str) -> None:
    assert f"`{columns}`" in section("12. What a run leaves")


def test_every_choice_is_explained() -> None:
    assert re.findall(r"^\* \*\*`([a-z-]+)`\*\*", section("Views and waves"), re.MULTILINE) == (
        list(views.DefenseView)
    )
    assert f"| | {' | '.join(f'`{rule}`' for rule in Absence)} |" in section("7. Scores")
    assert [policy for policy in LogPolicy if f"| `{policy}`" in TEXT] == list(LogPolicy)


def test_the_numbers_are_those_of_the_program() -> None:
    assert f"At most {sizes.MAX_MEMBERS:,} files and folders" in PROSE
    assert f"{sizes.MAX_PACKED_BYTES >> 30} GiB packed" in PROSE
    assert f"{sizes.MAX_UNPACKED_BYTES >> 30} GiB unpacked" in PROSE
    assert f"unpack to {sizes._ANY_RATIO_BYTES >> 20} MiB" in PROSE
    assert f"or to {sizes._MAX_RATIO} times" in PROSE
    assert f"at most {plan.ATTACK_IMAGES:,} images in a run" in PROSE
    assert f"more than {plan.ATTACK_PIXEL_BYTES >> 20} MiB of pixels (125 of" in PROSE
    assert plan.ATTACK_PIXEL_BYTES // (299 * 299 * 3) == 125
    assert f"at most {views.PER_ATTACK_IMAGES} images, clean images apart" in PROSE
    assert f"the last {disclosure.TAIL_LINES} lines ({disclosure.TAIL_BYTES >> 10} KiB" in PROSE
    assert (validate.SMOKE_IMAGES, work.TRIES) == (10, 3)
    assert f"{validate.HEIGHT} x {validate.WIDTH} and budget {validate.MAX_EPSILON}" in PROSE
    assert ingest.csv_cap(7) == (1 << 20) + 1024 * 7
    assert png.max_png_bytes(5, 7) == 2 * 5 * (3 * 7 + 1) + (8 << 20)
