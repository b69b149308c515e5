"""Costs: counted as by hand, and a recipe for ImageNet sizes that keeps within one classifier."""

import pytest
import torch
from torch import nn

from advcomp.attacknet.network.flops import costs_of, described, flops, gigaflops
from advcomp.attacknet.network.generator import AdversarialGenerator
from advcomp.attacknet.network.model import AttackNetwork, NetworkSpec
from advcomp.attacknet.recipe import EpsilonInput, NetworkTable


def network(widths: tuple[int, ...], stem_stride: int) -> AttackNetwork:
    table = NetworkTable(
        widths=widths, stem_stride=stem_stride, epsilon=EpsilonInput.CONDITION, bottlenecks=3
    )
    spec = NetworkSpec(table=table, max_epsilons=(8, 16), target_labels=None, hint=())
    return AttackNetwork(spec)


def test_a_convolution_costs_what_its_definition_says() -> None:
    x = torch.rand(1, 3, 16, 16)
    convolution = nn.Conv2d(3, 8, 3, padding=1)
    assert flops(lambda: convolution(x)) == 2 * 3 * 9 * 8 * 16 * 16
    assert gigaflops(1.5e9) == "1.5 GFLOP"


def test_the_network_is_compared_with_the_dearest_classifier() -> None:
    x, eps = torch.rand(1, 3, 16, 16), torch.full((1,), 8 / 255)
    small, large = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 80, 3, padding=1)
    generator = AdversarialGenerator(network((8, 8), 1))
    lines = described(costs_of(generator, {"small": small, "large": large}, x, eps))
    ratio = flops(lambda: generator(x, eps)) / flops(lambda: large(x))
    assert lines[-1] == f"the network costs {ratio:.2f} forward passes of large"
    assert [line.split(":")[0] for line in lines[:-1]] == ["network", "small", "large"]


@pytest.mark.parametrize("side", [224, 299])
def test_a_large_network_costs_no_more_than_a_large_classifier(side: int) -> None:
    """Inception-ResNet-v2 costs 26.4 GFLOP at 299x299 (13.2 G multiplications); 2017's largest."""
    with torch.device("meta"):
        large = network((48, 96, 192, 384, 384), 2)
        x, eps = torch.empty(1, 3, side, side), torch.empty(1)
    assert flops(lambda: large(x, eps)) <= 26.4e9 * (side / 299) ** 2
