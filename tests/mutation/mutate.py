"""Mutation testing: plants small bugs, one at a time, and asks whether the tests find each.

`make mutate`, or with more to choose: `PYTHONPATH=tests python -P -m mutation.mutate --help`.
`campaigns.toml` says what is mutated and which tests judge. The working tree stays as it is: a
copy is mutated.
"""

import os
import shlex
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import cosmic_ray.commands
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.plugins import OPERATOR_PROVIDERS
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkItem, WorkResult
from mutation.operators import OPERATORS
from mutation.sampling import sample

ROOT = Path(__file__).resolve().parents[2]
CAMPAIGNS = Path(__file__).with_name("campaigns.toml")
LEAST_S, SLACK = 60.0, 10.0
"""A test run ends as a mutant's that hangs after `SLACK` times what it takes without, at least
`LEAST_S`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """One table of `campaigns.toml`."""

    name: str
    modules: tuple[str, ...]
    tests: tuple[str, ...]
    sample: int
    left_out: tuple[str, ...] = ()

    def files(self, root: Path) -> list[Path]:
        """The modules that are mutated, relative to `root`."""
        found = [root / module for module in self.modules]
        files = [
            file
            for path in found
            for file in (sorted(path.rglob("*.py")) if path.is_dir() else [path])
        ]
        return [file.relative_to(root) for file in files if file.name != "__init__.py"]

    def command(self, module: Path | None = None) -> str:
        """The tests that judge a mutant of a module; the first that fails ends them."""
        own = f"test_{module.stem}*.py" if module else ""
        folders = dict.fromkeys(
            Path(t).parent if t.endswith(".py") else Path(t) for t in self.tests
        )
        first = (
            [str(file) for folder in folders for file in sorted(folder.glob(own))] if own else []
        )
        return shlex.join(
            [
                *(sys.executable, "-P", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"),
                *("-m", "not slow"),
                *dict.fromkeys([*first, *self.tests]),
                *(f"--deselect={test}" for test in self.left_out),
            ]
        )


def campaigns() -> list[Campaign]:
    """All that `campaigns.toml` has."""
    tables = tomllib.loads(CAMPAIGNS.read_text("utf-8"))
    return [
        Campaign(
            name=name,
            modules=tuple(table["modules"]),
            tests=tuple(table["tests"]),
            sample=table["sample"],
            left_out=tuple(table.get("left_out", ())),
        )
        for name, table in tables.items()
    ]


def prepare(campaign: Campaign, db: WorkDB, *, size: int, seed: int) -> None:
    """Put a sample of all mutants into a session of cosmic-ray; the working folder is the copy."""
    cosmic_ray.commands.init(campaign.files(Path.cwd()), db, {})
    mutations = [item.mutations[0] for item in db.work_items]
    db.clear()
    db.add_work_items(
        WorkItem.single(f"{campaign.name}-{number:03}", mutation)
        for number, mutation in enumerate(sample(mutations, size, seed))
    )


def run(campaign: Campaign, db: WorkDB) -> None:
    """Try every mutant of a session that has not been tried."""
    begin = time.monotonic()
    subprocess.run(shlex.split(campaign.command()), check=True)
    limit_s = max(LEAST_S, SLACK * (time.monotonic() - begin))
    for item in sorted(db.pending_work_items, key=lambda item: item.job_id):
        (mutation,) = item.mutations
        result = mutate_and_test(item.mutations, campaign.command(mutation.module_path), limit_s)
        db.set_result(item.job_id, result)
        print(item.job_id, _answer(result), *_where(mutation), flush=True)


def _answer(result: WorkResult) -> str:
    """What became of a mutant; one that no test can begin with says little of the tests."""
    if result.test_outcome is not TestOutcome.KILLED:
        return str((result.test_outcome or result.worker_outcome).value)
    if result.output == "timeout":
        return "out of time"
    return "killed" if "\nFAILED " in (result.output or "") else "broken"


def _where(mutation: MutationSpec) -> Iterator[str]:
    yield f"{mutation.module_path}:{mutation.start_pos[0]}"
    yield mutation.operator_name.partition("/")[2]


def report(name: str, db: WorkDB) -> str:
    """How many mutants of a campaign were tried, and every one that no test found."""
    done = sorted(db.completed_work_items, key=lambda pair: pair[0].job_id)
    answers = [_answer(result) for _, result in done]
    counts = ", ".join(f"{answers.count(word)} {word}" for word in dict.fromkeys(answers))
    survivors = [f"{item.job_id}\n{result.diff}" for item, result in done if not result.is_killed]
    return "\n".join([f"{name}: {len(done)} mutants: {counts}", *survivors])


def copy_of_the_tree(target: Path) -> None:
    """All files that git knows or would, as they are now."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    for name in filter(None, map(os.fsdecode, names)):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())


KNOWN = {campaign.name: campaign for campaign in campaigns()}


@click.command(
    help="Plant bugs, and see whether the tests find them.\n\n"
    f"CAMPAIGN is one of {', '.join(KNOWN)}; all where none is named."
)
@click.argument("names", metavar="[CAMPAIGN]...", nargs=-1, type=click.Choice([*KNOWN]))
@click.option("--sample", "mutants", type=int, help="Mutants of each, not what the file says.")
@click.option("--seed", default=0, show_default=True, help="Of the sample.")
@click.option("--go-on", is_flag=True, help="With a sample that was begun.")
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "build" / "mutation")
def main(names: tuple[str, ...], mutants: int | None, seed: int, go_on: bool, out: Path) -> None:
    """Run campaigns one after another; the sessions stay in `--out`, for `cr-report`."""
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    OPERATOR_PROVIDERS["advcomp"] = OPERATORS
    with tempfile.TemporaryDirectory(prefix="advcomp-mutants-") as copy:
        copy_of_the_tree(Path(copy))
        os.chdir(copy)
        # What is linked into the environment is the tree that was copied.
        os.environ |= {"PYTHONPATH": copy, "OMP_NUM_THREADS": "1"}
        for name in names or KNOWN:
            session = out / f"{name}.sqlite"
            begun = go_on and session.exists()
            with use_db(session) as db:
                if not begun:
                    size = mutants or KNOWN[name].sample
                    prepare(KNOWN[name], db, size=size, seed=seed)
                run(KNOWN[name], db)
                print(report(name, db))
                (out / f"{name}.txt").write_text(report(name, db))
        os.chdir(ROOT)


if __name__ == "__main__":
    main()
