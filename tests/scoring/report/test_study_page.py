"""The page of a study: what was best, how it came to that, and nothing that could act."""

import re
from dataclasses import replace

from advcomp.scoring.report.study import StudyMaterial, TrialRow, front, history, study_page

TRIALS = (
    TrialRow(number=0, state="done", values=(0.4, 3.0), settings={"x": 0.5, "kind": "<b>"}),
    TrialRow(number=1, state="pruned", so_far="20 images", settings={"x": 0.1, "kind": "a"}),
    TrialRow(number=2, state="done", values=(0.7, 9.0), settings={"x": 0.25, "kind": "a"}),
    TrialRow(number=3, state="done", values=(0.3, 8.0), settings={"x": 0.9, "kind": "a"}),
    TrialRow(number=4, state="too slow", values=(0.9, 1.0), settings={"x": 1.0}, counts=False),
)


def material(objectives: int, best: tuple[int, ...]) -> StudyMaterial:
    names = ("score", "seconds_per_100_images")[:objectives]
    return StudyMaterial(
        name="try",
        subject="fgsm",
        objectives=names,
        maximised=(True, False)[:objectives],
        opponents=("plain",),
        trials=tuple(replace(trial, values=trial.values[:objectives]) for trial in TRIALS),
        best=best,
        importances={"x": 0.75, "kind": 0.25} if objectives == 1 else {},
        final=("held out: nine",),
    )


def test_the_course_rises_with_what_counts_alone() -> None:
    shown = material(1, (2,))
    chart = history(shown, [trial for trial in shown.trials if trial.values])
    heights = [float(y) for y in re.findall(r"(?:V|M[\d.]+ )([\d.]+)", chart.stairs)]
    by_number = {dot.told.partition(":")[0]: dot.y for dot in chart.dots}
    best = [by_number[f"trial {number}"] for number in (0, 2, 2, 2)]
    assert heights == best[: len(heights)]
    assert len(heights) == 3, "what is too slow moves nothing"
    assert [dot.best for dot in chart.dots] == [False, True, False, False]


def test_the_front_leads_from_cheap_to_good() -> None:
    chart = front(material(2, (0, 2)), [trial for trial in TRIALS if trial.values])
    first, second = (
        tuple(map(float, point.split())) for point in chart.stairs.removeprefix("M").split("L")
    )
    assert first[0] < second[0]
    assert first[1] > second[1], "higher on the page is more"


def test_the_page_says_it_all_and_lets_nothing_act() -> None:
    one, two = study_page(material(1, (2,))), study_page(material(2, (0, 2)))
    assert '<b>"' not in one
    assert "&lt;b&gt;" in one
    for text in ("held out: nine", "20 images", "Importances", "too slow", ">0.75<"):
        assert text in one
    assert "The Pareto front" in two
    assert "Importances" not in two
    assert not re.search(r"(?:src|href)=\"(?!#)", one + two)
    assert study_page(material(1, (2,))) == one
    assert "No trial has come to its end yet" in study_page(
        StudyMaterial(
            name="x",
            subject="y",
            objectives=("score",),
            maximised=(True,),
            opponents=(),
            trials=(),
            best=(),
            importances={},
            final=(),
        )
    )
