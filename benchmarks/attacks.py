"""Attack loops beside a hand-written floor and the peers: `python benchmarks/attacks.py`.

Every contender attacks the same batch in turn, round after round, in one process; what is printed
is the median over the rounds of its time divided by the floor's in the same round. The floor is
the least that an attack can do: forward, gradient to the input only, sign, clip. Peers that are
not installed are left out and named (`pip install '.[benchmark]'`).

On a CPU, `--threads 1` makes time the processor's, in which other programs on the machine hardly
show; otherwise it is the wall's.

With `--cifar10 FILE.npz|ROOT` it also says what folding and channels-last change in the results:
misclassification on 1,000 test images, of the attacked classifier and of one that was not.

Exits 1 where a goal is missed: 1.05 of the floor as the weights come, 0.75 folded and
channels-last, 0.2 points of misclassification.
"""

import copy
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import click
import torch
from torch import Tensor, nn
from torch.nn import functional

from advcomp.players.attacks import fgsm, momentum_iterative_fgsm, pgd
from advcomp.players.classifier.folding import fold_batch_norm
from advcomp.players.classifiers import load_classifier
from advcomp.players.datasets import Part, cifar10
from advcomp.players.image.pixels import quantise, to_float
from advcomp.rules.threat import eps_of

STEPS = 10
EPS = eps_of(8)
STEP_SIZE = EPS / STEPS
CLASSES = 10
GOAL_UNFOLDED = 1.05
GOAL_FOLDED = 0.75
GOAL_POINTS = 0.2
IMAGES = 1000
WEIGHTS = Path(__file__).parent.parent / "tournament/cifar10/weights"
ATTACKED = ("vgg_net_a.safetensors", "res_net_a.safetensors", "conv_mixer_a.safetensors")
HELD_OUT = "res_net_b.safetensors"

Attack = Callable[[], Tensor]
"""One attack on the batch, ready to be timed."""

Contender = Callable[["Task"], Mapping[str, Attack]]
"""What it makes of a task, by the attack's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is attacked: a classifier as users have it, and images (N, 3, H, W) with labels."""

    model: nn.Module
    clean: Tensor
    labels: Tensor


@click.command(help=__doc__.splitlines()[0])
@click.option("--rounds", default=9, show_default=True)
@click.option("--batch", default=32, show_default=True)
@click.option(
    "--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True
)
@click.option("--threads", type=int, help="Of PyTorch on the CPU [default: its own].")
@click.option("--bf16", is_flag=True, help="Ours in bfloat16, too.")
@click.option("--cifar10", "source", metavar="FILE.npz|ROOT", type=click.Path(path_type=Path))
def main(
    rounds: int, batch: int, device: str, threads: int | None, bf16: bool, source: Path | None
) -> None:
    if threads:
        torch.set_num_threads(threads)
    contenders: dict[str, Contender] = {"floor": floor, "ours": ours, "ours, folded": ours_folded}
    if bf16:
        contenders["ours, folded, bf16"] = ours_bf16
    for package, contender in PEERS.items():
        if find_spec(package):
            contenders[package] = contender
        else:
            print(f"{package}: not installed, left out")
    met = True
    for name, model in networks():
        ratios = race(task(model, batch, device), contenders, rounds)
        print(f"\n{name}, batch {batch}, {device}: time over the floor's")
        met &= report(ratios)
    if source:
        met &= compare_results(source, device)
    sys.exit(not met)


def networks() -> Iterator[tuple[str, nn.Module]]:
    """ResNet-18 shapes for 32x32 in two widths, and a plain network without batch norm."""
    for width in (16, 32):
        yield f"ResNet-18, width {width}", resnet18(width)
    yield "plain convolutions, no batch norm", plain_net()


def task(model: nn.Module, batch: int, device: str) -> Task:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(batch, 3, 32, 32, generator=generator).to(device)
    model = model.to(device).eval()
    return Task(model=model, clean=clean, labels=model(clean).argmax(1))


def race(
    task: Task, contenders: Mapping[str, Contender], rounds: int
) -> Mapping[str, Mapping[str, float]]:
    """Median ratio to the floor by contender and attack; the order turns from round to round."""
    attacks = {name: contender(task) for name, contender in contenders.items()}
    ratios: dict[str, dict[str, float]] = {name: {} for name in contenders}
    for attack in attacks["floor"]:
        entries = [(name, runs[attack]) for name, runs in attacks.items()]
        for _, run in entries:
            run()
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for at in range(rounds):
            for name, run in entries[at % len(entries) :] + entries[: at % len(entries)]:
                times[name].append(seconds(run, task.clean.device))
        for name in contenders:
            paired = zip(times[name], times["floor"], strict=True)
            ratios[name][attack] = statistics.median(own / base for own, base in paired)
    return ratios


def seconds(run: Attack, device: torch.device) -> float:
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if alone else time.perf_counter
    synchronise(device)
    start = clock()
    run()
    synchronise(device)
    return clock() - start


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def report(ratios: Mapping[str, Mapping[str, float]]) -> bool:
    """Print a table; whether ours meets its goals."""
    print(f"{'':22}" + "".join(f"{attack:>12}" for attack in ratios["floor"]))
    for name, row in ratios.items():
        print(f"{name:22}" + "".join(f"{ratio:12.2f}" for ratio in row.values()))
    return (
        max(ratios["ours"].values()) <= GOAL_UNFOLDED
        and max(ratios["ours, folded"].values()) <= GOAL_FOLDED
    )


def compare_results(source: Path, device: str) -> bool:
    """What folding and channels-last change in misclassification, in points of 1,000 images."""
    data = cifar10(Part.TOURNAMENT, source)
    clean = to_float(data.levels[:IMAGES]).to(device)
    labels = torch.tensor(data.labels[:IMAGES], device=device)
    held_out = load_classifier(WEIGHTS / HELD_OUT).to(device)
    print(f"\n{IMAGES} images, misclassified in %: as the weights come, folded, difference")
    differences = []
    for path in (WEIGHTS / name for name in ATTACKED):
        plain = Task(model=load_classifier(path).to(device), clean=clean, labels=labels)
        pairs = zip(ours(plain).items(), ours(folded(plain)).values(), strict=True)
        for (attack, run), fast in pairs:
            torch.manual_seed(0)
            before = saved(run())
            torch.manual_seed(0)
            after = saved(fast())
            for judge, model in (("attacked", plain.model), ("held out", held_out)):
                rates = [
                    100 * float((model(x).argmax(1) != labels).float().mean())
                    for x in (before, after)
                ]
                differences.append(abs(rates[1] - rates[0]))
                print(
                    f"{path.stem:14}{attack:12}{judge:10}{rates[0]:6.1f}{rates[1]:6.1f}"
                    f"{rates[1] - rates[0]:+6.1f}"
                )
    return max(differences) <= GOAL_POINTS + 1e-6


def saved(adversarial: Tensor) -> Tensor:
    """Images as they come back from PNGs."""
    return to_float(quantise(adversarial)).to(adversarial.device)


def floor(task: Task) -> Mapping[str, Attack]:
    """The least that each attack can do."""

    def iterated(steps: int, step_size: float, random: bool, decay: float | None) -> Tensor:
        clean, low, high = task.clean, task.clean - EPS, task.clean + EPS
        x = clean + torch.empty_like(clean).uniform_(-EPS, EPS) if random else clean
        velocity: Tensor | float = 0.0
        for _ in range(steps):
            x = x.detach().requires_grad_()
            loss = functional.cross_entropy(task.model(x), task.labels, reduction="sum")
            (g,) = torch.autograd.grad(loss, x)
            if decay is not None:
                g = g / g.abs().mean((1, 2, 3), keepdim=True)
                velocity = decay * velocity + g
                g = velocity
            x = torch.minimum(torch.maximum(x + step_size * g.sign(), low), high).clamp(0, 1)
        return x

    return {
        "FGSM": lambda: iterated(1, EPS, False, None),
        "PGD-10": lambda: iterated(STEPS, STEP_SIZE, True, None),
        "MI-FGSM-10": lambda: iterated(STEPS, STEP_SIZE, False, 1.0),
    }


def ours(task: Task) -> Mapping[str, Attack]:
    common = (task.model, task.clean, task.labels)
    return {
        "FGSM": partial(fgsm, *common, eps=EPS),
        "PGD-10": partial(pgd, *common, eps=EPS, steps=STEPS, step_size=STEP_SIZE),
        "MI-FGSM-10": partial(
            momentum_iterative_fgsm, *common, eps=EPS, steps=STEPS, step_size=STEP_SIZE
        ),
    }


def ours_folded(task: Task) -> Mapping[str, Attack]:
    return ours(folded(task))


def ours_bf16(task: Task) -> Mapping[str, Attack]:
    fast = folded(task)
    return ours(replace(fast, model=InBfloat16(fast.model)))


def folded(task: Task) -> Task:
    """Batch norm in the convolutions, everything in channels-last layout."""
    model = fold_batch_norm(copy.deepcopy(task.model), task.clean[:1])
    return Task(
        model=model.to(memory_format=torch.channels_last),
        clean=task.clean.contiguous(memory_format=torch.channels_last),
        labels=task.labels,
    )


class InBfloat16(nn.Module):
    """A network with weights and activations of 16 bits; images and logits have 32."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).to(torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x.to(torch.bfloat16)).float()
        return logits


def with_torchattacks(task: Task) -> Mapping[str, Attack]:
    import torchattacks

    attacks = {
        "FGSM": torchattacks.FGSM(task.model, eps=EPS),
        "PGD-10": torchattacks.PGD(task.model, eps=EPS, alpha=STEP_SIZE, steps=STEPS),
        "MI-FGSM-10": torchattacks.MIFGSM(task.model, eps=EPS, alpha=STEP_SIZE, steps=STEPS),
    }
    return {name: partial(attack, task.clean, task.labels) for name, attack in attacks.items()}


def with_foolbox(task: Task) -> Mapping[str, Attack]:
    import foolbox
    from foolbox import attacks as boxed

    model = foolbox.PyTorchModel(task.model, bounds=(0, 1), device=task.clean.device)
    step = {"abs_stepsize": STEP_SIZE, "steps": STEPS}
    attacks = {
        "FGSM": boxed.LinfFastGradientAttack(),
        "PGD-10": boxed.LinfPGD(**step),
        "MI-FGSM-10": boxed.LinfMomentumIterativeFastGradientMethod(**step),
    }
    return {
        name: partial(attack, model, task.clean, task.labels, epsilons=EPS)
        for name, attack in attacks.items()
    }


def with_art(task: Task) -> Mapping[str, Attack]:
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        task.model,
        loss=nn.CrossEntropyLoss(),
        input_shape=task.clean.shape[1:],
        nb_classes=CLASSES,
        clip_values=(0, 1),
        device_type="gpu" if task.clean.device.type == "cuda" else "cpu",
    )
    step = {"eps": EPS, "eps_step": STEP_SIZE, "max_iter": STEPS, "verbose": False}
    batch = len(task.clean)
    attacks = {
        "FGSM": evasion.FastGradientMethod(classifier, eps=EPS, batch_size=batch),
        "PGD-10": evasion.ProjectedGradientDescentPyTorch(
            classifier, **step, num_random_init=1, batch_size=batch
        ),
        "MI-FGSM-10": evasion.MomentumIterativeMethod(classifier, **step, batch_size=batch),
    }
    clean, labels = task.clean.cpu().numpy(), task.labels.cpu().numpy()
    return {name: partial(attack.generate, clean, labels) for name, attack in attacks.items()}


PEERS: Mapping[str, Contender] = {
    "torchattacks": with_torchattacks,
    "foolbox": with_foolbox,
    "art": with_art,
}
"""By the package's name."""


def resnet18(width: int) -> nn.Module:
    """He et al. 2016 (arXiv 1512.03385) for 32x32: a 3x3 stem, four stages of two blocks.

    Its batch norms have the statistics of random images, so that folding has something to fold.
    """
    torch.manual_seed(width)
    widths = [width, width, 2 * width, 4 * width, 8 * width]
    stages = [
        nn.Sequential(Block(before, after, 1 if at == 0 else 2), Block(after, after, 1))
        for at, (before, after) in enumerate(itertools.pairwise(widths))
    ]
    model = nn.Sequential(
        conv(3, width), nn.BatchNorm2d(width), nn.ReLU(), *stages, head(8 * width)
    )
    for _ in range(3):
        model(torch.rand(32, 3, 32, 32))
    return model


def plain_net() -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after, stride in ((3, 64, 1), (64, 64, 1), (64, 128, 2), (128, 256, 2)):
        layers += [conv(before, after, stride), nn.ReLU()]
    return nn.Sequential(*layers, head(256))


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm beside a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            conv(before, after, stride),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            conv(after, after),
            nn.BatchNorm2d(after),
        )
        self.shortcut: nn.Module = nn.Identity()
        if before != after or stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.residual(x) + self.shortcut(x))


def conv(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride, padding=1, bias=False)


def head(width: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES))


if __name__ == "__main__":
    main()
