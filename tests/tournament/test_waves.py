"""Waves: which columns are classified together, and which old waves are kept."""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError
from support.contest import BRIGHTNESS, COPY, Contest, write_greys

from advcomp.rules.threat import Schedule
from advcomp.tournament.job.defense_views import CLEAN
from advcomp.tournament.job.opaque import open_key
from advcomp.tournament.job.plan import AttackJob, Job, attack_jobs, defense_jobs
from advcomp.tournament.job.waves import (
    Column,
    ColumnSource,
    Wave,
    WaveImages,
    columns_of,
    load_waves,
    plan_waves,
)
from advcomp.tournament.outcome.collect import current_columns
from advcomp.tournament.store.job_results import Store
from advcomp.tournament.store.state import DatasetState, RunState, load_state


def column(attack: str, job: str = "job") -> Column:
    source = ColumnSource(job=job, outputs="outputs", max_epsilon=8, images=(0, 1))
    return Column(attack=attack, max_epsilon=8, sources=(source,))


A, B, C = map(column, "abc")


def test_what_is_new_becomes_a_wave_after_those_that_are_kept() -> None:
    first = plan_waves((), [A, B])
    assert first == (Wave(columns=(A, B)),)
    assert plan_waves(first, [A, B]) == first
    assert plan_waves(first, [A, B, C]) == (*first, Wave(columns=(C,)))


def test_a_wave_that_holds_nothing_wanted_any_more_goes() -> None:
    waves = (Wave(columns=(A,)), Wave(columns=(B,)))
    assert plan_waves(waves, [B]) == (Wave(columns=(B,)),)
    again = column("a", job="another")
    assert plan_waves(waves, [again, B]) == (Wave(columns=(B,)), Wave(columns=(again,)))


def test_a_wave_of_which_something_is_wanted_stays_whole() -> None:
    """Its shards were made of all of it; what is not wanted is not scored."""
    waves = (Wave(columns=(A, B)),)
    assert plan_waves(waves, [B]) == waves


@pytest.mark.parametrize("part", [A.sources[0], A, Wave(columns=(A,))])
def test_a_key_of_another_version_is_not_passed_over(part: BaseModel) -> None:
    with pytest.raises(ValidationError, match="later"):
        type(part).model_validate({**part.model_dump(), "later": 1})


def test_without_any_image_there_is_one_wave_of_clean_images() -> None:
    assert plan_waves((), []) == (Wave(columns=()),)


def assert_ids_hash_all_they_depend_on(state: RunState, store: Store, run: Path) -> None:
    """Worked out one by one, in the plainest way."""
    (wave,), key = load_waves(run), open_key(run / "key")
    images = WaveImages(state, store, wave)
    ids, data = state.dataset.image_ids, state.dataset.digest
    jobs: list[Job] = [*attack_jobs(state), *defense_jobs(state, key, [(wave, images)])]
    for job in jobs:
        if isinstance(job, AttackJob):
            shown = [ids[k] for k in job.images]
            inputs: dict[str, object] = {
                "max_epsilon": job.max_epsilon,
                "dataset": data,
                "images": shown,
            }
        else:
            items = [
                f"{ids[item.image]} clean {data}"
                if item.column == CLEAN
                else f"{ids[item.image]} {item.column} "
                f"{images.png_digest(item.column, item.image)}"
                for item in job.items
            ]
            inputs = {"shard": sha256("\n".join(sorted(items)).encode()).hexdigest()}
        everything = {
            "format": 1,
            "name": job.entry.name,
            "submission": job.entry.digest,
            "type": job.entry.type,
            "image": job.entry.image,
            "inputs": inputs,
            "limits": state.limits.model_dump(),
            "sandbox": state.sandbox.model_dump(mode="json"),
        }
        text = json.dumps(everything, sort_keys=True)
        assert job.id == sha256(text.encode()).hexdigest()[:32]


@pytest.mark.parametrize(
    ("schedule", "view", "columns"),
    [
        ("round-robin", "latin", 1),
        ("round-robin", "pooled", 2),
        ("round-robin", "per-attack", 2),
        ("grid", "latin", 2),
    ],
)
def test_budgets_of_an_attack_are_one_column_under_round_robin_and_latin_alone(
    tmp_path_factory: pytest.TempPathFactory, schedule: str, view: str, columns: int
) -> None:
    folder = tmp_path_factory.mktemp("waves")
    write_greys(folder / "data", 101)  # two batches of round-robin
    contest = Contest(folder)
    file = contest.file(
        [contest.entry("noop", COPY)],
        [contest.entry("brightness", BRIGHTNESS, "defense")],
        schedule=schedule,
        view=view,
    )
    run = contest.run(file).run
    state, store = load_state(run), Store(run)
    assert_ids_hash_all_they_depend_on(state, store, run)
    assert len(current_columns(state, store)) == columns
    (wave,) = load_waves(run)
    assert len(wave.columns) == columns
    images = WaveImages(state, store, wave)
    assert np.sum(images.exists) == (101 if schedule == "round-robin" else 202)
    first = tuple(np.argwhere(images.exists)[0].tolist())
    result = store.load(images.folder(*first))
    assert result is not None
    assert result.png_digests[0] == images.png_digest(*first) != ""
    done = [(job, store.load(job.id)) for job in attack_jobs(state)]
    sources = [
        (ColumnSource(job=j.id, outputs=r.outputs, max_epsilon=j.max_epsilon, images=j.images), r)
        for j, r in done
        if r is not None
    ]
    made = columns_of(state, "noop", sources)
    budgets = {source.max_epsilon for c in made for source in c.sources}
    assert budgets == {8, 32}
    assert np.sum([len(source.images) for c in made for source in c.sources]) == (
        101 if schedule == "round-robin" else 202
    )


def test_the_images_of_a_budget_are_looked_up_and_not_looked_for_again() -> None:
    """Every job of an attack asks: to go through all pairs each time is quadratic in budgets."""
    state = RunState.model_construct(
        dataset=DatasetState.model_construct(image_ids=tuple(map(str, range(250)))),
        max_epsilons=(4, 8),
        schedule=Schedule.ROUND_ROBIN,
    )
    assert state.images_at(8) == tuple(range(100, 200))
    assert state.images_at(4) == (*range(100), *range(200, 250))
    assert state.images_at(16) == ()
    assert state.images_at(8) is state.images_at(8)
