"""Training: it learns, goes on after a kill as if nothing had happened, and says what is wrong."""

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from support.no_waiting import NOWHERE, no_waiting, no_waiting_for_a_gpu
from torch import nn

from advcomp.attacknet.assembly import names_of
from advcomp.attacknet.data import AttackBatch, drawn_targets, load_images, validation_batch
from advcomp.attacknet.recipe import AttackNetworkRecipe, load_network_recipe
from advcomp.attacknet.task import AttackNetworkTask, attack_network_task
from advcomp.attacknet.train import train_attack_network
from advcomp.errors import AdvcompError, InvalidConfig, RunConflict
from advcomp.players.classifiers import Classifier, load_classifier
from advcomp.rules.dataset import LabelledImage, write_dataset
from advcomp.rules.lock import locked
from advcomp.training.checkpoint import latest_checkpoint, load_checkpoint, save_checkpoint
from advcomp.training.loop import TrainingRun
from advcomp.training.progress import EvaluationReport, RateOf, SilentObserver, StepReport
from advcomp.training.ranks import Ranks
from advcomp.training.recorder import Recorder, read_losses
from advcomp.training.schedule import learning_rate, move_average

ROOT = Path(__file__).parents[2]
MPIEXEC = ("mpiexec", "--allow-run-as-root", "--oversubscribe")
Require = Callable[[str], None]
Toy = Callable[..., Path]


class Watcher(SilentObserver):
    """Keeps what an observer is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.first = -1
        self.steps: list[StepReport] = []
        self.evaluations: list[EvaluationReport] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def started(self, name: str, first_step: int, steps: int, images_a_step: int) -> None:
        self.first = first_step

    def stepped(self, report: StepReport) -> None:
        self.steps.append(report)

    def evaluated(self, report: EvaluationReport) -> None:
        self.evaluations.append(report)


def begun(
    recipe: AttackNetworkRecipe,
) -> tuple[AttackNetworkTask, TrainingRun[AttackBatch]]:
    task = attack_network_task(recipe, Ranks(), load_images(recipe.data)[0])
    return task, TrainingRun(task, recipe.plan, Ranks())


def step_of(run: TrainingRun[AttackBatch]) -> StepReport:
    run.step()
    (report,) = run.read()
    return report


def losses(folder: Path) -> list[float]:
    return [float(row[1]) for row in read_losses(folder / "losses.csv")]


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_a_run_leaves_checkpoints_losses_pictures_and_files_for_tensorboard(
    toy: Toy, tmp_path: Path
) -> None:
    watcher = Watcher()
    out = tmp_path / "run"
    checkpoint = train_attack_network(toy(), watcher, out=out).checkpoint
    assert checkpoint == out / "checkpoints" / "step-00000004.pt"
    assert [path.name for path in sorted((out / "checkpoints").iterdir())] == [
        "step-00000002.pt",
        "step-00000004.pt",
    ]
    assert losses(out) == [report.loss for report in watcher.steps]
    assert len(set(losses(out))) == 4
    (evaluation,) = watcher.evaluations
    assert set(evaluation.rates) == {("v", 16), ("v", 48)}
    assert all(0 <= 12 * rate <= 12 for rate in evaluation.rates.values())
    assert evaluation.picture is not None
    assert np.asarray(Image.open(evaluation.picture)).shape == (8 * 32, 5 * 32, 3)
    assert list((out / "tensorboard").glob("events.out.*"))
    assert watcher.notes[0].startswith("network: ")
    assert "forward passes of c0, " in watcher.notes[-1]


@pytest.mark.slow
def test_training_fools_its_target(toy: Toy, tmp_path: Path) -> None:
    digits = ROOT / "tournament" / "digits" / "weights" / "conv_net_b.safetensors"
    classifier = load_classifier(digits)
    for name in ("c0", "c1", "c2", "c3", "v"):
        classifier.save(tmp_path / f"{name}.safetensors")
    watcher = Watcher()
    recipe = toy(
        ("steps = 4", "steps = 60"),
        ("evaluate_every = 4", "evaluate_every = 60"),
        ("relativistic_cross_entropy = 0.5\n", ""),
        ("validation_images = 12", "validation_images = 60"),
        ('precision = "float64"', 'precision = "float32"'),
        ("clip_norm = 1000.0", "clip_norm = 1.0"),
    )
    train_attack_network(recipe, watcher, out=tmp_path / "run")
    (evaluation,) = watcher.evaluations
    assert evaluation.clean_rates["v"] < 0.1
    assert evaluation.rates["v", 48] > 0.5


@pytest.mark.slow
def test_finished_training_is_not_repeated(toy: Toy, tmp_path: Path) -> None:
    recipe, out = toy(), tmp_path / "run"
    first = train_attack_network(recipe, SilentObserver(), out=out).checkpoint
    stamp, before = first.stat().st_mtime_ns, losses(out)
    watcher = Watcher()
    with locked(out), pytest.raises(RunConflict, match="another advcomp process"):
        train_attack_network(recipe, watcher, out=out)
    assert train_attack_network(recipe, watcher, out=out).checkpoint == first
    assert first.stat().st_mtime_ns == stamp
    assert watcher.first == 4
    assert not watcher.steps
    assert losses(out) == before


@pytest.mark.mpi
@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_losses_also_on_other_ranks(
    toy: Toy, require: Require, tmp_path: Path
) -> None:
    """Killed for real after some checkpoint, alone; it goes on on two ranks."""
    require("mpi")
    long = ("steps = 4", "steps = 20")
    recipe = toy(long)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train_attack_network(recipe, SilentObserver(), out=whole)
    command = [sys.executable, "-m", "advcomp.cli", "train", str(recipe), "--out", str(killed)]
    running = subprocess.Popen(command, env=environment(), cwd=ROOT)
    deadline = time.monotonic() + 200
    while len(losses(killed)) < 7:
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    newest = latest_checkpoint(killed)
    assert newest is not None
    assert 0 < load_checkpoint(newest).about.step < 20
    two = subprocess.run(
        [*MPIEXEC, "-n", "2", *command, "--model-ranks", "2"],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert two.returncode == 0, two.stderr
    assert "going on after step" in two.stderr
    assert losses(killed) == pytest.approx(losses(whole), rel=1e-9, abs=1e-9)


@pytest.mark.mpi
@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ranks_that_mpiexec_stops_keep_their_steps(
    number: signal.Signals, toy: Toy, require: Require, tmp_path: Path
) -> None:
    """It kills them a quarter of a second after it has told them; a step may take longer.

    No parameter of Open MPI 5 gives them more, and on a busy machine that may be too short to
    write anything: then the run begins anew, and another one is stopped.
    """
    require("mpi")
    recipe = toy(
        ("steps = 4\nbatch_size = 8", "steps = 5\nbatch_size = 48"),
        ("checkpoint_every = 2", "checkpoint_every = 100"),
        ("evaluate_every = 4", "evaluate_every = 100"),
    )
    train_attack_network(recipe, SilentObserver(), out=tmp_path / "whole")
    for attempt in range(6):
        stopped, watcher = tmp_path / str(attempt), Watcher()
        done = steps_until_a_stop(number, recipe, stopped)
        newest = latest_checkpoint(stopped)
        kept = 0 if newest is None else load_checkpoint(newest).about.step
        assert done < 5
        assert kept in (0, done, done + 1), "a step may be done and not be told yet"
        train_attack_network(recipe, watcher, out=stopped)
        assert watcher.first == kept
        expected = pytest.approx(losses(tmp_path / "whole"), rel=1e-9, abs=1e-9)
        assert losses(stopped) == expected
        if kept:
            return
    pytest.fail("no rank has kept a step in six runs")


def steps_until_a_stop(number: signal.Signals, recipe: Path, out: Path) -> int:
    """Stop ranks by mpiexec after three steps; how many there are when all are gone."""
    command = [sys.executable, "-m", "advcomp.cli", "train", str(recipe), "--out", str(out)]
    running = subprocess.Popen(
        [*MPIEXEC, "-n", "2", *command], env=environment(), cwd=ROOT, stderr=subprocess.DEVNULL
    )
    while len(losses(out)) < 3:
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(number)
    running.wait(timeout=60)
    return len(losses(out))


@pytest.mark.slow
def test_a_run_that_goes_on_alone_is_bit_equal(toy: Toy, tmp_path: Path) -> None:
    """The later checkpoints are taken away, as if the run had been killed before them."""
    recipe, out = toy(("steps = 4", "steps = 6"), ("[output]", "[output]\nkeep = 9")), tmp_path
    train_attack_network(recipe, SilentObserver(), out=out / "run")
    before = losses(out / "run")
    for step in (4, 6):
        (out / "run" / "checkpoints" / f"step-{step:08d}.pt").unlink()
    watcher = Watcher()
    train_attack_network(recipe, watcher, out=out / "run")
    assert watcher.first == 2
    assert losses(out / "run") == before


def test_an_image_meets_as_many_targets_as_the_recipe_says() -> None:
    """Each of them as often, and the same ones in whatever batch the image is."""
    met = drawn_targets(3, range(4000), 5, 2)
    assert (met.sum(1) == 2).all()
    assert (met.float().mean(0) - 2 / 5).abs().max() < 0.03
    assert torch.equal(drawn_targets(3, range(7, 9), 5, 2), met[7:9])
    assert drawn_targets(3, range(3), 5, 5).all()


@pytest.mark.slow
def test_a_drawn_target_counts_for_those_that_were_not_drawn(toy: Toy) -> None:
    """One of four, four times; so the loss is that of all four in the mean over draws."""
    few = ("batch_size = 8", "batch_size = 8\ntargets_per_image = 1")
    still = [
        ('name = "block_shuffle"\nprobability = 0.5', 'name = "scale"\nlow = 1.0'),
        ('name = "diverse_inputs"', 'name = "scale"\nlow = 1.0'),
    ]
    (whole, _), (drawn, _) = (begun(load_network_recipe(toy(*still, *m))) for m in ([], [few]))
    batch = whole.batch(0)
    adversarial = batch.clean.flip(3)
    met = drawn_targets(3, batch.positions, 4, 1)
    assert met.sum(0).count_nonzero() > 1
    expected = sum(
        replace(whole, targets={number: target})._own_share_of_loss(
            batch.at(torch.tensor([row])), adversarial[row : row + 1]
        )
        for number, target in whole.targets.items()
        for row in met[:, number].nonzero().flatten().tolist()
    )
    assert isinstance(expected, torch.Tensor)
    torch.testing.assert_close(drawn._own_share_of_loss(batch, adversarial), 4 * expected)


@pytest.mark.slow
def test_a_run_ends_when_its_time_is_spent_and_slows_down_for_it(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that moves a tenth of a second a look: the machine's load says nothing here."""
    looks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: next(looks) / 10)
    monkeypatch.setattr("advcomp.training.loop.time", clock)
    recipe, out, watcher = (
        toy(("steps = 4", "steps = 4000\nminutes = 0.02")),
        tmp_path / "run",
        Watcher(),
    )
    trained = train_attack_network(recipe, watcher, out=out)
    about = load_checkpoint(trained.checkpoint).about
    assert not trained.interrupted
    assert about.step == len(watcher.steps) == 12
    assert about.spent_s == pytest.approx(1.2)
    assert len(watcher.evaluations) >= 1
    assert watcher.steps[-1].learning_rate < 0.5 * max(s.learning_rate for s in watcher.steps)
    again = Watcher()
    assert train_attack_network(recipe, again, out=out).checkpoint == trained.checkpoint
    assert not again.steps


@pytest.mark.slow
def test_a_changed_recipe_goes_on_with_the_weights_of_another(toy: Toy, tmp_path: Path) -> None:
    old = train_attack_network(toy(), SilentObserver(), out=tmp_path / "old").checkpoint
    begun_with = load_checkpoint(old).states["average"]
    recipe = toy(
        ('name = "toy"', 'name = "toy_2"'),
        ("learning_rate = 0.01", "learning_rate = 1e-30"),
        ("margin = 1.0", "margin = 2.0"),
    )
    new = train_attack_network(recipe, SilentObserver(), out=tmp_path / "new", init=old)
    kept = load_checkpoint(new.checkpoint)
    assert kept.about.step == 4
    for state in ("module", "average"):
        for name, value in kept.states[state].items():
            torch.testing.assert_close(value, begun_with[name])
    with pytest.raises(InvalidConfig, match="other values of --init; undo"):
        train_attack_network(recipe, SilentObserver(), out=tmp_path / "new")
    wider = toy(("widths = [8, 8]", "widths = [16, 8]"))
    misfit = f"{old}: stem.bias: expected (16,), as the recipe's network has it; got (8,); "
    with pytest.raises(InvalidConfig, match=re.escape(misfit)):
        train_attack_network(wider, SilentObserver(), out=tmp_path / "wider", init=old)


def test_a_checkpoint_of_another_recipe_is_refused_by_key(toy: Toy, tmp_path: Path) -> None:
    train_attack_network(toy(), SilentObserver(), out=tmp_path / "run")
    Classifier("conv_net", 10).save(tmp_path / "c2.safetensors")
    other = toy(
        ("learning_rate = 0.01", "learning_rate = 0.02"), ("[output]", "[output]\nkeep = 3")
    )
    with pytest.raises(InvalidConfig) as caught:
        train_attack_network(other, SilentObserver(), out=tmp_path / "run")
    assert "values of targets[2].weights, training.learning_rate; undo" in str(caught.value)


def test_a_checkpoint_from_before_a_key_was_known_goes_on_at_its_default(
    toy: Toy, tmp_path: Path
) -> None:
    """Of a key that the recipe now says, nobody knows what it was."""
    first = train_attack_network(toy(), SilentObserver(), out=tmp_path / "run").checkpoint
    kept = load_checkpoint(first)
    del kept.about.identity["network.stem_stride"]
    save_checkpoint(tmp_path / "run", kept, 2)
    watcher = Watcher()
    train_attack_network(toy(), watcher, out=tmp_path / "run")
    assert watcher.first == 4
    said = toy(("embedding = 4", "embedding = 4\nstem_stride = 1"))
    with pytest.raises(InvalidConfig, match=r"other values of network\.stem_stride; undo"):
        train_attack_network(said, watcher, out=tmp_path / "run")


def test_what_went_on_after_a_checkpoint_stands_once_in_the_files(tmp_path: Path) -> None:
    """An evaluation at the checkpoint's own step stays; steps after it are told again."""
    event_file = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    picture = tmp_path / "examples.png"
    Image.new("RGB", (4, 4)).save(picture)

    def record(first: int, last: int) -> None:
        with Recorder(tmp_path / "run", first) as recorder:
            for step in range(first, last):
                recorder.stepped(
                    StepReport(
                        step=step,
                        loss=1.5,
                        gradient_norm=1.0,
                        learning_rate=0.1,
                        skipped=0,
                        in_a_row=0,
                    )
                )
                evaluation = EvaluationReport(
                    step=step + 1,
                    rates={("v", 8): 0.5},
                    clean_rates={"v": 0.0},
                    picture=picture,
                    of=RateOf.MISCLASSIFIED,
                )
                recorder.evaluated(evaluation)

    record(0, 5)
    record(3, 6)
    assert [row[0] for row in read_losses(tmp_path / "run" / "losses.csv")] == list("012345")
    board = event_file.EventAccumulator(
        str(tmp_path / "run" / "tensorboard"), size_guidance={"images": 0, "scalars": 0}
    ).Reload()
    for tag in ("training/loss", "misclassification/v/8"):
        assert [event.step for event in board.Scalars(tag)] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in board.Images("examples")] == [1, 2, 3, 4, 5, 6]


def test_one_class_is_enough_unless_the_network_aims(toy: Toy, tmp_path: Path) -> None:
    folder = ('source = "digits"', 'source = "folder"\npath = "images"')
    image = np.zeros((24, 32, 3), np.uint8)
    write_dataset(
        tmp_path / "images",
        [LabelledImage(image_id=f"i{i}", image=image + i, label=3) for i in range(20)],
    )
    recipe = load_network_recipe(toy(folder))
    _, held_out = load_images(recipe.data)
    assert np.isfinite(step_of(begun(recipe)[1]).loss)
    assert validation_batch(recipe, held_out, slice(0, 2), 8, torch.float64).labels.tolist() == [
        3,
        3,
    ]
    with pytest.raises(InvalidConfig, match=r"\[threat\] targeted: expected images of two"):
        train_attack_network(
            toy(folder, ("[threat]", "[threat]\ntargeted = true")), SilentObserver(), out=tmp_path
        )


def test_classifiers_of_one_file_name_are_told_apart() -> None:
    assert names_of([Path("/w/a/net.safetensors"), Path("/w/b.safetensors")]) == ["net", "b"]
    same = [Path("/w/a/net.safetensors"), Path("/w/b/net.safetensors"), Path("/w/c/other.pt")]
    assert names_of(same) == ["a/net", "b/net", "c/other"]


def test_classifiers_that_do_not_fit_are_all_named(toy: Toy, tmp_path: Path) -> None:
    recipe = toy()
    Classifier("conv_net", 7).save(tmp_path / "c0.safetensors")
    Classifier("conv_net", 10, label_offset=1).save(tmp_path / "c1.safetensors")
    poisoned = Classifier("conv_net", 10)
    for parameter in poisoned.parameters():
        nn.init.constant_(parameter, float("nan"))
    poisoned.save(tmp_path / "c2.safetensors")
    (tmp_path / "c3.safetensors").write_bytes(b"nothing")
    with pytest.raises(InvalidConfig) as caught:
        train_attack_network(recipe, SilentObserver(), out=tmp_path / "run")
    problems = caught.value.problems
    assert len(problems) == 4
    assert "labels 0 to 9; it has 7 classes, 0 to 6" in problems[0]
    assert "it has 10 classes, 1 to 10" in problems[1]
    assert "expected finite weights" in problems[2]
    assert str(tmp_path / "c3.safetensors") in problems[3]


def test_a_classifier_of_another_input_size_is_named(toy: Toy, tmp_path: Path) -> None:
    recipe = toy(('source = "digits"', 'source = "folder"\npath = "images"'))
    image = np.zeros((16, 16, 3), np.uint8)
    write_dataset(
        tmp_path / "images",
        [LabelledImage(image_id=f"i{i}", image=image + i, label=i % 3) for i in range(20)],
    )
    Classifier("mlp_mixer", 10).save(tmp_path / "c1.safetensors")
    with pytest.raises(InvalidConfig) as caught:
        train_attack_network(recipe, SilentObserver(), out=tmp_path / "run")
    (problem,) = caught.value.problems
    assert f"{tmp_path / 'c1.safetensors'}: expected a classifier for images of 16x16" in problem


def test_unknown_layers_are_named_with_the_nearest(toy: Toy, tmp_path: Path) -> None:
    recipe = toy(('"network.1"]', '"network.9"]'))
    with pytest.raises(InvalidConfig, match=r"none called \"network.9\"; the nearest are network"):
        train_attack_network(recipe, SilentObserver(), out=tmp_path / "run")


@pytest.mark.slow
def test_steps_without_a_finite_loss_are_skipped_and_at_last_stop_with_the_batch_saved(
    toy: Toy, tmp_path: Path
) -> None:
    """A learning rate that drives the weights to infinity in one step."""
    recipe = toy(
        ("learning_rate = 0.01", "learning_rate = 1e308"),
        ("warm_up_steps = 2", "warm_up_steps = 0\nmax_skipped = 3"),
        ("steps = 4", "steps = 30"),
    )
    watcher = Watcher()
    with pytest.raises(AdvcompError, match="got none in 3 steps in a row") as caught:
        train_attack_network(recipe, watcher, out=tmp_path / "run")
    last = watcher.steps[-1]
    assert last.skipped == 3
    assert not np.isfinite(last.gradient_norm)
    path = tmp_path / "run" / f"not-finite-step-{last.step:08d}.safetensors"
    assert str(path) in str(caught.value)
    saved = load_file(path)
    assert latest_checkpoint(tmp_path / "run") is None  # none of weights that are not finite
    assert saved["clean"].shape == saved["adversarial"].shape == (8, 3, 32, 32)
    assert torch.isfinite(saved["clean"]).all()


def test_only_steps_in_a_row_without_a_finite_loss_count_towards_the_end(toy: Toy) -> None:
    """A classifier answers NaN in some of the steps; those leave the network as it is."""
    recipe = load_network_recipe(toy())
    task, run = begun(recipe)
    weight = next(task.targets[0].classifier.parameters())
    sound = weight.detach().clone()
    counts = []
    for poisoned in (True, True, False, True):
        weight.data.copy_(sound * float("nan") if poisoned else sound)
        before = {name: value.clone() for name, value in task.module.state_dict().items()}
        report = step_of(run)
        assert np.isfinite(report.loss) == (not poisoned)
        same = [torch.equal(before[n], value) for n, value in task.module.state_dict().items()]
        assert all(same) == poisoned
        counts.append((report.skipped, report.in_a_row))
    assert counts == [(1, 1), (2, 2), (2, 0), (3, 1)]


@pytest.mark.slow
def test_a_full_disk_is_told_and_leaves_the_last_checkpoint(toy: Toy, tmp_path: Path) -> None:
    """Files of this process may grow to 40 kB; beyond, writing fails as on a full disk."""
    recipe = toy()
    train_attack_network(recipe, SilentObserver(), out=tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "step-00000002.pt"
    (tmp_path / "run" / "checkpoints" / "step-00000004.pt").unlink()
    content = last.read_bytes()
    program = (
        "import resource, signal, sys; from advcomp.cli import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\n"
        "main(['train', *sys.argv[1:]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(recipe), "--out", str(tmp_path / "run")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 1
    assert "expected room for checkpoints, losses and pictures; got: File too large" in done.stderr
    assert f"{last} is intact" in done.stderr
    assert "Traceback" not in done.stderr
    assert last.read_bytes() == content
    assert list(last.parent.iterdir()) == [last]


def test_the_learning_rate_warms_up_and_falls_along_a_cosine() -> None:
    rates = [learning_rate(2.0, step, 110, warm_up=10) for step in range(110)]
    assert rates[:10] == pytest.approx([2 * (i + 1) / 11 for i in range(10)])
    assert rates[10] == 2.0
    assert rates[60] == pytest.approx(1.0)
    assert 0 < rates[109] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_the_average_forgets_its_beginning_and_then_moves_slowly() -> None:
    average = {"w": torch.tensor(100.0, dtype=torch.float64)}
    for step in range(2000):
        move_average(average, {"w": torch.tensor(1.0, dtype=torch.float64)}, 0.99, step)
    assert average["w"].item() == pytest.approx(1.0, abs=1e-4)
    move_average(average, {"w": torch.tensor(2.0, dtype=torch.float64)}, 0.99, 2000)
    assert average["w"].item() == pytest.approx(1.01, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "scaled"), [("bf16", False), ("fp16", True)])
def test_16_bits_channels_last_and_recomputation_train(
    precision: str, scaled: bool, toy: Toy, tmp_path: Path
) -> None:
    watcher = Watcher()
    recipe = toy(('"float64"', f'"{precision}"\nchannels_last = true\nrecompute = true'))
    checkpoint = train_attack_network(recipe, watcher, out=tmp_path / "run").checkpoint
    assert all(np.isfinite(report.gradient_norm) for report in watcher.steps)
    assert ("scale" in load_checkpoint(checkpoint).states["scaler"]) is scaled


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.long)]
)
def test_a_compiled_network_takes_the_same_steps(
    backend: str, toy: Toy, require: Require, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels of its own, which take a minute to build, or torch's for the same compiled graph."""
    require("compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    reports = []
    for compiles in (False, True):
        recipe = load_network_recipe(
            toy(
                ('"float64"', f'"float32"\ncompile = {str(compiles).lower()}'),
                ('mode = "recurrent"\nsurrogate = "c0.safetensors"\n', 'mode = "none"\n'),
                ('layers = ["network.0", "network.1"]\n', ""),
            )
        )
        task, run = begun(recipe)
        assert (task.generator.network is task.module) is not compiles
        reports.append([step_of(run) for _ in range(2)])
    for eager, compiled in zip(*reports, strict=True):
        assert compiled.loss == pytest.approx(eager.loss, rel=1e-4)
        assert compiled.gradient_norm == pytest.approx(eager.gradient_norm, rel=1e-3)


EVERY_TRANSFORM = "".join(
    f'[[transforms]]\nname = "{name}"\nprobability = 0.5\n'
    for name in ("diverse_inputs", "block_shuffle", "scale", "smooth")
)


def test_the_losses_of_a_step_make_the_host_wait_for_nothing(toy: Toy) -> None:
    """Wherever a GPU would have to be asked, or be given something that it is not yet ready for.

    Without a hint: torch's autocast, which it is found without, knows no such device.
    """
    hint = 'mode = "recurrent"\nsurrogate = "c0.safetensors"\nlayers = ["network.0", "network.1"]'
    path = toy(
        (hint, 'mode = "none"'),
        ("[training]", "[training]\ntargets_per_image = 3"),
        ("[[validation]]", EVERY_TRANSFORM + "[[validation]]"),
    )
    task, _ = begun(load_network_recipe(path))
    batch = task.batch(0)
    for module in (task.generator, *(target.classifier for target in task.targets.values())):
        module.to(NOWHERE)
    with no_waiting():
        loss = task.loss(batch.to(NOWHERE, task.recipe.plan.layout), 0)
        loss.backward()  # type: ignore[no-untyped-call]
    with no_waiting(), pytest.raises(AssertionError, match="waited for"):
        batch.clean.to(NOWHERE)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_step_on_a_gpu_makes_the_host_wait_for_nothing(toy: Toy) -> None:
    path = toy(
        ("[training]", "[training]\ntargets_per_image = 3"),
        ("[[validation]]", EVERY_TRANSFORM + "[[validation]]"),
        ('name = "cpu"\nprecision = "float64"', 'name = "cuda"\nprecision = "bf16"'),
    )
    recipe, ranks = load_network_recipe(path), Ranks(device=torch.device("cuda"))
    task = attack_network_task(recipe, ranks, load_images(recipe.data)[0])
    run = TrainingRun(task, recipe.plan, ranks)
    run.step()
    batch = task.batch(1).pin_memory()
    with no_waiting_for_a_gpu():
        run.step(batch)
    assert len(run.read()) == 2
