"""The command that trains: real processes, killed, resumed and several at once."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from advcomp.players.classifier.classifier_recipe import read_classifier_recipes
from advcomp.players.classifier.train_classifier import (
    accuracy,
    as_tensors,
    main,
    train_classifier,
)
from advcomp.players.classifiers import Classifier, load_classifier
from advcomp.players.datasets import Part, digits
from advcomp.players.fitting.fit import LabelledBatch, fit
from advcomp.training.ranks import Ranks

DIGITS = Path(__file__).parents[2] / "tournament" / "digits"
COMMAND = (sys.executable, "-m", "advcomp.players.classifier.train_classifier")

RECIPE = """
dataset = "digits"
evaluation = { max_epsilon = 32, steps = 2, images = 20 }

[classifier.grouped]
architecture = "conv_net"
epochs = 3
objective = { name = "fgsm", max_epsilon = 16 }
"""

TWO_RANKS = """
dataset = "digits"
evaluation = { max_epsilon = 32, steps = 2, images = 20 }

[classifier.grouped]
architecture = "conv_net"
epochs = 1

[classifier.batched]
architecture = "res_net"
epochs = 1
batch_size = 42
learning_rate = 1e-12
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "train.toml"
    path.write_text(RECIPE)
    return path


def tensors(folder: Path, name: str = "grouped") -> dict[str, Tensor]:
    return load_file(folder / "weights" / f"{name}.safetensors")


@pytest.mark.slow
def test_training_writes_weights_and_says_how_well_they_do(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(recipe), "--device", "cpu"])
    told = capsys.readouterr().out
    assert "grouped: epoch 3 of 3, loss " in told
    classifier = load_classifier(recipe.parent / "weights" / "grouped.safetensors")
    share = accuracy(classifier, *as_tensors(digits(Part.TOURNAMENT)))
    assert f"| grouped | conv_net | fgsm | {100 * share:.1f} % |" in told
    assert (recipe.parent / "accuracies.md").read_text() in told
    assert classifier.feed.input_size == (32, 32)
    main([str(recipe), "--evaluate"])
    assert "epoch" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_command_goes_on_to_the_identical_weights(recipe: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = (*COMMAND, str(recipe), "--device", "cpu")
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert first.stdout is not None
    assert first.stdout.readline().startswith("grouped: epoch 1 of 3")
    first.send_signal(signal.SIGKILL)
    first.wait()
    first.stdout.close()
    assert not (recipe.parent / "weights" / "grouped.safetensors").exists()
    again = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert "epoch 1 of 3" not in again.stdout
    assert "epoch 3 of 3" in again.stdout
    torch.set_num_threads(1)
    expected = train_classifier(
        read_classifier_recipes(recipe).classifier["grouped"], digits(Part.TRAINING)
    )
    expected.save(recipe.parent / "expected.safetensors")
    unbroken = load_file(recipe.parent / "expected.safetensors")
    assert all(torch.equal(unbroken[name], each) for name, each in tensors(recipe.parent).items())


TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
MPIEXEC = ("mpiexec", "--allow-run-as-root", "--oversubscribe", "-n", "2", sys.executable)
SRUN = ("srun", "--overcommit", "--kill-on-bad-exit", "-n", "2", sys.executable)


def on_two_ranks(*command: str, launcher: Sequence[str] = TORCHRUN) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        [*launcher, *command],
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=300,
    )


def by_halves(classifier: Classifier, batch: LabelledBatch) -> Tensor:
    """The plain loss, the shares of two ranks one after the other.

    The same sums in another order would not do: Adam makes a step out of a rounding error.
    """
    shares = [Ranks(rank=rank, size=2).share(len(batch.labels)) for rank in range(2)]
    return torch.cat(
        [
            functional.cross_entropy(
                classifier(batch.clean[own]), batch.labels[own], reduction="none"
            )
            for own in shares
        ]
    )


@pytest.mark.slow
def test_two_ranks_train_what_one_process_trains(recipe: Path) -> None:
    """Group norm: the same weights. Batch norm: statistics averaged over the ranks."""
    recipe.write_text(TWO_RANKS)
    on_two_ranks(
        "-m", "advcomp.players.classifier.train_classifier", str(recipe), "--device", "cpu"
    )
    images, recipes = digits(Part.TRAINING), read_classifier_recipes(recipe).classifier
    torch.manual_seed(recipes["grouped"].seed)
    expected = fit(Classifier("conv_net", 10), by_halves, images, recipes["grouped"])
    for name, value in expected.network.state_dict().items():
        found = tensors(recipe.parent)[f"network.{name}"]
        torch.testing.assert_close(found, value, atol=1e-6, rtol=1e-5)
    alone, batched = (
        train_classifier(recipes["batched"], images),
        tensors(recipe.parent, "batched"),
    )
    mean, variance = (f"network.0.1.running_{statistic}" for statistic in ("mean", "var"))
    torch.testing.assert_close(batched[mean], alone.state_dict()[mean], atol=2e-3, rtol=2e-2)
    assert not torch.equal(batched[variance], alone.state_dict()[variance])


GRADIENTS = """
import sys
import torch
from torch.nn.functional import cross_entropy
from advcomp.players.classifiers import Classifier
from advcomp.training.launch import launched
from advcomp.training.ranks import Ranks, joined_ranks

def gradients(ranks):
    torch.manual_seed(0)
    classifier = Classifier("conv_net", 10)
    images, labels = torch.rand(7, 3, 32, 32), torch.arange(7)
    own = ranks.share(7)
    losses = cross_entropy(classifier(images[own]), labels[own], reduction="sum")
    (losses / 7).backward()
    ranks.all_reduce_gradients(classifier)
    return torch.cat([parameter.grad.flatten() for parameter in classifier.parameters()])

with joined_ranks(launched(), device="cpu") as ranks:
    assert ranks.size == 2
    torch.testing.assert_close(gradients(ranks), gradients(Ranks()))
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
    on_two_ranks(str(tmp_path / "gradients.py"), launcher=launcher)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["groped"], "expected names among grouped; got groped"),
        (["--device", "cuda:99"], 'got "cuda:99"'),
        (["--device", "sofa"], 'device: expected "auto", "cpu" or a GPU'),
        (["--evaluate"], "grouped.safetensors: expected a readable"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1(
    arguments: list[str], told: str, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(recipe), *arguments])
    assert caught.value.code == 1
    assert told in capsys.readouterr().err


@pytest.mark.slow
def test_an_ensemble_needs_its_networks_weights(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe.write_text(
        RECIPE + '[classifier.second]\narchitecture = "conv_net"\nepochs = 1\n'
        'objective = { name = "ensemble", max_epsilon = 8, networks = ["grouped"] }\n'
    )
    with pytest.raises(SystemExit):
        main([str(recipe), "second"])
    assert "second needs grouped; train them first" in capsys.readouterr().err
    (recipe.parent / "weights").mkdir()
    Classifier("conv_net", 10).save(recipe.parent / "weights" / "grouped.safetensors")
    main([str(recipe), "second"])
    assert "second: epoch 1 of 1" in capsys.readouterr().out


def test_the_committed_weights_are_those_of_the_recipe() -> None:
    recipe = read_classifier_recipes(DIGITS / "train.toml")
    files = {path.stem: path for path in (DIGITS / "weights").glob("*.safetensors")}
    assert files.keys() == recipe.classifier.keys()
    images, labels = as_tensors(digits(Part.TOURNAMENT))
    for name, one in recipe.classifier.items():
        classifier = load_classifier(files[name])
        assert classifier.architecture == one.architecture
        assert accuracy(classifier, images, labels) > 0.94
