"""What training can minimise, by the name that a recipe gives it.

In the formulas f is the classifier, L the cross-entropy, eps the radius of the epoch, x' an
adversarial image. Adversarial images are made in evaluation mode, so that batch norm's running
statistics see each of them once, when it is trained on.
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from advcomp.players.attack.hooks import gradient_of
from advcomp.players.attacks import attack_loop, fgsm, iterative_fgsm
from advcomp.players.classifier.classifier_recipe import TrainingObjective
from advcomp.players.classifier.frozen import frozen
from advcomp.players.classifiers import Classifier
from advcomp.players.fitting.fit import LabelledBatch, TrainingLoss


def loss_of(
    objective: TrainingObjective, networks: Sequence[Classifier] = ()
) -> TrainingLoss[Classifier]:
    """The loss that an objective names.

    Args:
        networks: Trained classifiers whose adversarial examples "ensemble" adds.
    """
    losses: dict[str, TrainingLoss[Classifier]] = {
        "plain": clean_cross_entropy,
        "fgsm": lambda f, batch: _cross_entropy(f, _one_step(f, batch, objective), batch),
        "pgd": lambda f, batch: _cross_entropy(f, _pgd(f, batch, objective), batch),
        "ensemble": lambda f, batch: _ensemble(f, batch, objective, networks),
        "trades": lambda f, batch: _trades(f, batch, objective),
        "noise": lambda f, batch: _noise(f, batch, objective),
    }
    return losses[objective.name]


def clean_cross_entropy(f: Classifier, batch: LabelledBatch) -> Tensor:
    """L(f(x), y)."""
    return _cross_entropy(f, batch.clean, batch)


def _cross_entropy(f: Classifier, x: Tensor, batch: LabelledBatch) -> Tensor:
    return functional.cross_entropy(f(x), batch.labels, reduction="none")


def _one_step(f: Classifier, batch: LabelledBatch, objective: TrainingObjective) -> Tensor:
    """One step from a random start (Wong et al. 2020, arXiv 2001.03994, algorithm 3; 1.25 eps)."""
    eps = objective.eps(batch.epoch)
    return _from_random_start(f, batch, eps, steps=1, step_size=1.25 * eps)


def _pgd(f: Classifier, batch: LabelledBatch, objective: TrainingObjective) -> Tensor:
    """The inner maximum of equation 2.1 in Madry et al. 2018, arXiv 1706.06083.

    Steps of 2 eps / steps: they cross the ball from every start.
    """
    eps, steps = objective.eps(batch.epoch), objective.steps
    return _from_random_start(f, batch, eps, steps=steps, step_size=2 * eps / steps)


def _from_random_start(
    f: Classifier, batch: LabelledBatch, eps: float, *, steps: int, step_size: float
) -> Tensor:
    return iterative_fgsm(
        f,
        batch.clean,
        batch.labels,
        eps=eps,
        steps=steps,
        step_size=step_size,
        start=lambda clean: clean + batch.draws.uniform(clean, -eps, eps),
    )


def _ensemble(
    f: Classifier,
    batch: LabelledBatch,
    objective: TrainingObjective,
    networks: Sequence[Classifier],
) -> Tensor:
    """(L(f(x), y) + L(f(x'), y)) / 2 (Tramer et al. 2018, arXiv 1705.07204, section 4).

    x' is FGSM's against a network drawn for the batch: one that is trained already, or f itself.
    """
    source = [*networks, f][batch.draws.choice(len(networks) + 1)]
    x = fgsm(source, batch.clean, batch.labels, eps=objective.eps(batch.epoch))
    return (_cross_entropy(f, batch.clean, batch) + _cross_entropy(f, x, batch)) / 2


def _trades(f: Classifier, batch: LabelledBatch, objective: TrainingObjective) -> Tensor:
    """L(f(x), y) + beta max KL(f(x) || f(x')) (Zhang et al. 2019, arXiv 1901.08573, equation 5).

    As in their algorithm 1, the search for x' starts at 0.001 times a normal draw from x; steps
    of 2.5 eps / steps, which are theirs (0.007 of 0.031 in 10 steps) to a tenth.
    """
    eps = objective.eps(batch.epoch)
    with frozen(f):
        answer = f(batch.clean).detach().float().softmax(1)
        x = attack_loop(
            gradient_of(lambda x: _divergence(answer, f(x)).sum()),
            batch.clean,
            eps=eps,
            steps=objective.steps,
            step_size=2.5 * eps / objective.steps,
            start=lambda clean: clean + 0.001 * batch.draws.normal(clean),
        )
    logits = f(batch.clean)
    clean_loss = functional.cross_entropy(logits, batch.labels, reduction="none")
    return clean_loss + objective.beta * _divergence(logits.float().softmax(1), f(x))


def _divergence(probabilities: Tensor, logits: Tensor) -> Tensor:
    """KL(p || softmax(logits)) of every image, (N,)."""
    log_softmax = logits.float().log_softmax(1)
    return functional.kl_div(log_softmax, probabilities, reduction="none").sum(1)


def _noise(f: Classifier, batch: LabelledBatch, objective: TrainingObjective) -> Tensor:
    """L(f(x + sigma n), y), n normal (Cohen et al. 2019, arXiv 1902.02918, section 3.3)."""
    noise = objective.sigma * batch.draws.normal(batch.clean)
    return _cross_entropy(f, batch.clean + noise, batch)
