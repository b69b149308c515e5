"""With whose weights a network may begin: those of one that is told no gradients, too."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from advcomp.attacknet.first_weights import first_weights
from advcomp.attacknet.network.model import AttackNetwork, NetworkSpec
from advcomp.attacknet.recipe import NetworkTable
from advcomp.errors import InvalidConfig


def network(gradients: int, **changes: object) -> AttackNetwork:
    """A small one, whose output is smooth."""
    settings: dict[str, object] = {
        "widths": (8, 16),
        "stem_stride": 2,
        "epsilon": "condition",
        "embedding": 4,
        "output": "residual",
        "sharpness": 0.1,
        "filter_size": 3,
    }
    table = NetworkTable.model_validate(settings | changes)
    spec = NetworkSpec(
        table=table, max_epsilons=(8,), target_labels=None, hint=(), gradients=gradients
    )
    return AttackNetwork(spec)


def saved(one: AttackNetwork, folder: Path) -> Path:
    path = folder / "network.safetensors"
    save_file(one.state_dict(), path)
    return path


@pytest.mark.parametrize("gradients", [1, 4])
def test_a_network_that_is_told_gradients_begins_as_their_sum_and_one_that_is_not(
    gradients: int, tmp_path: Path
) -> None:
    alone, told = network(0), network(gradients)
    told.load_state_dict(first_weights(saved(alone, tmp_path), told))
    x, eps = torch.rand(2, 3, 8, 8), torch.tensor([4 / 255, 12 / 255])
    seen = torch.randn(2, gradients, 3, 8, 8)
    with torch.no_grad():
        before, after = alone(x, eps), told(x, eps, gradients=seen)
    assert before.abs().max() > 0.001
    moved = (after.atanh() - before.atanh()) / 0.1
    torch.testing.assert_close(moved, seen.sum(1), rtol=1e-4, atol=1e-4)


def test_weights_of_as_many_gradients_are_taken_as_they_are(tmp_path: Path) -> None:
    one, other = network(2), network(2)
    with torch.no_grad():
        one.weights.fill_(3)
        one.stem.weight[:, 3:] = 7
    found = first_weights(saved(one, tmp_path), other)
    assert found.keys() == other.state_dict().keys()
    for name, value in one.state_dict().items():
        torch.testing.assert_close(found[name], value)


def test_fewer_gradients_and_other_layers_do_not_fit(tmp_path: Path) -> None:
    path = saved(network(2), tmp_path)
    with pytest.raises(InvalidConfig, match=r"filters.weight: expected \(3, 12, 3, 3\), as the"):
        first_weights(path, network(4))
    with pytest.raises(InvalidConfig, match=r"stem.weight: expected \(8, 3, 3, 3\), as the"):
        first_weights(path, network(0))
    path = saved(network(0), tmp_path)
    with pytest.raises(InvalidConfig, match=r"stem.bias: expected \(16,\), as the"):
        first_weights(path, network(2, widths=(16, 16)))
