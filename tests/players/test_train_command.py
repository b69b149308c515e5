"""`advcomp train` of classifiers: real processes, killed, resumed and several at once."""

import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file
from support.freed_memory import CHURN, PAGES_OF_A_ROUND
from torch import Tensor

from advcomp.cli import main
from advcomp.players.classifier.classifier_recipe import read_classifier_recipes
from advcomp.players.classifier.train_classifier import (
    accuracy,
    as_tensors,
    train_classifier,
)
from advcomp.players.classifiers import Classifier, load_classifier
from advcomp.players.datasets import Part, digits
from advcomp.players.training_images import ImageSource, training_images
from advcomp.rules.dataset import LabelledImage, write_dataset

DIGITS = Path(__file__).parents[2] / "tournament" / "digits"
CIFAR10 = DIGITS.parent / "cifar10"
COMMAND = (sys.executable, "-m", "advcomp", "train")

KEEPING = f"""
from pathlib import Path
from advcomp.errors import AdvcompError
from advcomp.terminal.training import TrainOptions, train_in_terminal
{CHURN}
unset = dict.fromkeys(("out", "source", "device", "model_ranks", "init"))
try:
    train_in_terminal(Path("no.toml"), TrainOptions(names=(), evaluate=False, **unset))
except (AdvcompError, OSError):
    print(pages_of_churning())
"""

RECIPE = """
dataset = "digits"
evaluation = { max_epsilon = 32, steps = 2, images = 20 }

[classifier.grouped]
architecture = "conv_net"
epochs = 3
objective = { name = "fgsm", max_epsilon = 16 }
"""

SEVERAL_RANKS = """
dataset = "digits"
evaluation = { max_epsilon = 32, steps = 2, images = 20 }

[defaults]
training_steps = 4
batch_size = 42
precision = "float64"

[classifier.grouped]
architecture = "conv_net"
objective = { name = "trades", max_epsilon = 16, steps = 2 }

[classifier.batched]
architecture = "res_net"
learning_rate = 1e-12
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "train.toml"
    path.write_text(RECIPE)
    return path


def tensors(folder: Path, name: str = "grouped") -> dict[str, Tensor]:
    return load_file(folder / "weights" / f"{name}.safetensors")


def ran(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["train", *arguments])


@pytest.mark.slow
def test_training_writes_weights_and_says_how_well_they_do(recipe: Path) -> None:
    done = ran(str(recipe), "--device", "cpu")
    assert done.exit_code == 0, done.stderr
    assert "grouped: [57/57] loss " in done.stderr
    classifier = load_classifier(recipe.parent / "weights" / "grouped.safetensors")
    share = accuracy(classifier, *as_tensors(digits(Part.TOURNAMENT)))
    assert f"| grouped | conv_net | fgsm | {100 * share:.1f} % |" in done.stdout
    assert (recipe.parent / "accuracies.md").read_text() == done.stdout
    assert classifier.feed.input_size == (32, 32)
    assert "loss" not in ran(str(recipe), "--evaluate").stderr


@pytest.mark.slow
def test_a_stopped_command_goes_on_to_the_identical_weights(recipe: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = (*COMMAND, str(recipe), "--device", "cpu")
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    checkpoints = recipe.parent / "checkpoints" / "grouped" / "checkpoints"
    while not list(checkpoints.glob("step-*.pt")):
        assert first.poll() is None
    first.send_signal(signal.SIGTERM)
    _, told = first.communicate()
    assert first.returncode == 130
    assert "stopped; the same command goes on" in told
    assert not (recipe.parent / "weights" / "grouped.safetensors").exists()
    again = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert "going on after step" in again.stderr
    torch.set_num_threads(1)
    expected = train_classifier(
        read_classifier_recipes(recipe).classifier["grouped"],
        training_images(ImageSource.DIGITS),
        folder=recipe.parent / "expected",
    )
    assert expected is not None
    expected.save(recipe.parent / "expected.safetensors")
    unbroken = load_file(recipe.parent / "expected.safetensors")
    assert all(torch.equal(unbroken[name], each) for name, each in tensors(recipe.parent).items())


@pytest.mark.slow
def test_a_folder_and_arrays_train_as_the_same_images_in_memory(tmp_path: Path) -> None:
    """Labels that count from 1, batches made by a worker, files that stay on the disk."""
    levels = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), np.uint8)
    labels = np.arange(30) % 3 + 1
    write_dataset(
        tmp_path / "folder",
        (
            LabelledImage(image_id=f"i{i:02}", image=image, label=int(label))
            for i, (image, label) in enumerate(zip(levels, labels, strict=True))
        ),
    )
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "images.npy", levels)
    np.save(tmp_path / "arrays" / "labels.npy", labels)
    found = []
    for kind in ("folder", "arrays"):
        recipe = tmp_path / f"of_{kind}" / "train.toml"
        recipe.parent.mkdir()
        recipe.write_text(
            f'dataset = "{kind}"\n'
            "evaluation = { max_epsilon = 8, steps = 1, held_out = 6 }\n"
            "[classifier.grouped]\n"
            'architecture = "conv_net"\ntraining_steps = 3\nbatch_size = 10\nworkers = 1\n'
        )
        done = ran(str(recipe), "--device", "cpu", "--source", str(tmp_path / kind))
        assert done.exit_code == 0, done.stderr
        assert "clean, 6 images" in done.stdout
        found.append(tensors(recipe.parent))
        classifier = load_classifier(recipe.parent / "weights" / "grouped.safetensors")
        assert (classifier.classes, classifier.label_offset) == (3, 1)
    assert all(torch.equal(found[1][name], each) for name, each in found[0].items())


@pytest.mark.long
@pytest.mark.slow
def test_every_classifier_for_attack_networks_can_be_trained(tmp_path: Path) -> None:
    """Two steps of each, on noise; these are all that is changed of the committed recipe."""
    text = (CIFAR10 / "attack_network" / "classifiers.toml").read_text()
    for old, new in (
        ('dataset = "cifar10"', 'dataset = "arrays"'),
        ("held_back = 2000", "held_back = 4"),
        ("steps = 20, images = 2000", "steps = 1, held_out = 4"),
        ("batch_size = 128", "batch_size = 8"),
    ):
        assert old in text
        text = text.replace(old, new)
    text = re.sub(r"^epochs = \d+$", "training_steps = 2", text, flags=re.MULTILINE)
    (tmp_path / "classifiers.toml").write_text(text)
    noise = np.random.default_rng(0).integers(0, 256, (28, 32, 32, 3), np.uint8)
    np.save(tmp_path / "images.npy", noise)
    np.save(tmp_path / "labels.npy", np.arange(28) % 10)
    command = ["train", str(tmp_path / "classifiers.toml"), "--source", str(tmp_path)]
    done = CliRunner().invoke(main, [*command, "--device", "cpu"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    for name, one in read_classifier_recipes(tmp_path / "classifiers.toml").classifier.items():
        trained = load_classifier(tmp_path / "weights" / f"{name}.safetensors")
        assert trained.architecture == one.architecture
        assert f"| {name} | {one.architecture} | {one.objective.name} |" in done.output


TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
MPIEXEC = ("mpiexec", "--allow-run-as-root", "--oversubscribe", "-n", "2", sys.executable)
SRUN = ("srun", "--overcommit", "--kill-on-bad-exit", "-n", "2", sys.executable)


def on_ranks(*command: str, launcher: Sequence[str] = TORCHRUN) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        [*launcher, *command],
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=300,
    )


@pytest.mark.slow
def test_ranks_train_what_one_process_trains(tmp_path: Path) -> None:
    """To 1e-9 without batch norm, whose statistics are averaged over the ranks."""
    found = {}
    for count in (1, 2):
        recipe = tmp_path / str(count) / "train.toml"
        recipe.parent.mkdir()
        recipe.write_text(SEVERAL_RANKS.replace("[defaults]", "[defaults]\nshift = 1"))
        launcher = [*TORCHRUN[:-1], f"--nproc-per-node={count}"]
        on_ranks("-m", "advcomp", "train", str(recipe), "--device", "cpu", launcher=launcher)
        kept = {
            name: max((recipe.parent / "checkpoints" / name / "checkpoints").iterdir())
            for name in ("grouped", "batched")
        }
        found[count] = {
            name: torch.load(path, weights_only=True)["module"] for name, path in kept.items()
        }
    for name, value in found[1]["grouped"].items():
        torch.testing.assert_close(found[2]["grouped"][name], value, atol=1e-9, rtol=1e-9)
    alone, batched = found[1]["batched"], found[2]["batched"]
    mean, variance = (f"network.0.1.running_{statistic}" for statistic in ("mean", "var"))
    torch.testing.assert_close(batched[mean], alone[mean], atol=2e-3, rtol=2e-2)
    assert not torch.equal(batched[variance], alone[variance])


GRADIENTS = """
import sys
import torch
from torch.nn.functional import cross_entropy
from advcomp.players.classifiers import Classifier
from advcomp.training.gradient_buckets import GradientBuckets
from advcomp.training.launch import launched
from advcomp.training.ranks import Ranks, joined_ranks

def gradients(ranks, bucket_bytes):
    torch.manual_seed(0)
    classifier = Classifier("conv_net", 10)
    buckets = GradientBuckets(classifier, ranks, bucket_bytes=bucket_bytes)
    images, labels = torch.rand(7, 3, 32, 32), torch.arange(7)
    own = ranks.share(7)
    losses = cross_entropy(classifier(images[own]), labels[own], reduction="sum")
    (losses / 7).backward()
    buckets.finish()
    return torch.cat([parameter.grad.flatten() for parameter in classifier.parameters()])

with joined_ranks(launched(), device="cpu") as ranks:
    assert ranks.size == 2
    for bucket_bytes in (1, 2000, 10**9):
        torch.testing.assert_close(gradients(ranks, bucket_bytes), gradients(Ranks(), 2000))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "backend"),
    [
        pytest.param(TORCHRUN, None, id="torchrun"),
        pytest.param(MPIEXEC, "mpi", id="mpiexec", marks=pytest.mark.mpi),
        pytest.param(SRUN, "slurm", id="srun", marks=pytest.mark.slurm),
    ],
)
def test_two_ranks_have_the_gradients_of_one_process(
    launcher: Sequence[str],
    backend: str | None,
    require: Callable[[str], None],
    tmp_path: Path,
) -> None:
    """Of the mean over a batch of odd size: neither their mean over the ranks nor twice that."""
    if backend is not None:
        require(backend)
    (tmp_path / "gradients.py").write_text(GRADIENTS)
    on_ranks(str(tmp_path / "gradients.py"), launcher=launcher)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["groped"], "expected names among grouped; got groped"),
        (["--device", "cuda:99"], 'got "cuda:99"'),
        (["--device", "sofa"], 'device: expected "auto", "cpu" or a GPU'),
        (["--evaluate"], "grouped.safetensors: expected a file of weights"),
        (["--model-ranks", "2"], "the recipe of a classifier takes no --model-ranks"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(
    arguments: list[str], told: str, recipe: Path
) -> None:
    done = ran(str(recipe), *arguments)
    assert done.exit_code == 1
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_an_ensemble_needs_its_networks_weights(recipe: Path) -> None:
    recipe.write_text(
        RECIPE + '[classifier.second]\narchitecture = "conv_net"\nepochs = 1\n'
        'objective = { name = "ensemble", max_epsilon = 8, networks = ["grouped"] }\n'
    )
    assert "second needs grouped; train them first" in ran(str(recipe), "second").stderr
    (recipe.parent / "weights").mkdir()
    Classifier("conv_net", 10).save(recipe.parent / "weights" / "grouped.safetensors")
    assert "second: [19/19] loss" in ran(str(recipe), "second").stderr


def test_the_committed_weights_are_those_of_the_recipe() -> None:
    recipe = read_classifier_recipes(DIGITS / "train.toml")
    files = {path.stem: path for path in (DIGITS / "weights").glob("*.safetensors")}
    assert files.keys() == recipe.classifier.keys()
    images, labels = as_tensors(digits(Part.TOURNAMENT))
    for name, one in recipe.classifier.items():
        classifier = load_classifier(files[name])
        assert classifier.architecture == one.architecture
        assert accuracy(classifier, images, labels) > 0.94


def test_images_that_are_held_back_train_no_classifier(recipe: Path) -> None:
    """The last of the training part: what is trained without them is what is trained there."""
    images = training_images(ImageSource.DIGITS)
    few = RECIPE.replace("epochs = 3", "training_steps = 3")
    recipe.write_text(few.replace("evaluation", f"held_back = {len(images)}\nevaluation"))
    assert f"expected fewer than the images, {len(images)}; got" in ran(str(recipe)).stderr
    recipe.write_text(few.replace("evaluation", "held_back = 1000\nevaluation"))
    assert ran(str(recipe), "--device", "cpu").exit_code == 0
    one, folder = read_classifier_recipes(recipe).classifier["grouped"], recipe.parent
    expected = train_classifier(one, images.part(slice(-1000)), folder=folder / "few")
    others = train_classifier(one, images, folder=folder / "all")
    assert expected is not None
    assert others is not None
    for name, value in tensors(folder).items():
        assert torch.equal(value, expected.state_dict()[name])
    assert not torch.equal(next(others.parameters()), next(expected.parameters()))
    recipe.write_text(few)
    assert (
        "expected a checkpoint of this recipe; other values of images" in ran(str(recipe)).stderr
    )


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_the_command_keeps_the_memory_that_it_frees(tmp_path: Path) -> None:
    words = [sys.executable, "-c", KEEPING]
    said = subprocess.run(
        words, capture_output=True, text=True, check=True, timeout=120, cwd=tmp_path
    )
    assert int(said.stdout) < PAGES_OF_A_ROUND
