"""On a GPU: the same attacks, and no step of them waits for the host."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from support.attack_cases import EPS, attack, images, network
from torch import nn

from advcomp.players.attack.objectives import cross_entropy, margin
from advcomp.players.attack_catalogue import ATTACKS
from advcomp.players.classifier.answers import CheckedModel

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]


@contextmanager
def no_synchronisation_after_the_first_look(classifier: nn.Module) -> Iterator[None]:
    """What an attack prepares may wait; from the first forward pass on, waiting is an error."""

    def watch(module: nn.Module, x: object) -> None:
        torch.cuda.set_sync_debug_mode("error")

    handle = classifier.register_forward_pre_hook(watch)
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")
        handle.remove()


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "universal"])
def test_no_step_synchronises_with_the_host(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def report(model: CheckedModel) -> None:
        # Whether all was finite is asked once, behind the last step.
        torch.cuda.set_sync_debug_mode("default")
        asked(model)

    asked = CheckedModel.report
    monkeypatch.setattr(CheckedModel, "report", report)
    torch.manual_seed(0)
    classifier, clean = network().cuda(), images(4, 32).cuda()
    seen = classifier(clean).argmax(1)
    run = attack(name, classifier, 32)
    with no_synchronisation_after_the_first_look(classifier):
        adversarial = run(clean, seen, eps=EPS)
    assert adversarial.device == clean.device
    loss = margin if "dlr" in name else cross_entropy
    assert (loss(classifier(adversarial), seen) > loss(classifier(clean), seen)).all()
