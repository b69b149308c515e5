"""What a model answers: logits in whatever form it hands them over, and no NaN passed on."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Model = Callable[[Tensor], Tensor]
"""Anything that gives logits (N, classes) for images (N, C, H, W) in [0, 1]."""


def logits_of(answer: object, images: int) -> Tensor:
    """The logits (N, classes) in what a model gave for N images.

    Either the answer itself or what it calls `logits`, as torchvision's Inception networks do in
    training and Hugging Face's models always.

    Raises:
        ValueError: It has none, or they have another shape. Which tensor of a plain tuple or list
            is meant is not guessed.
    """
    found = answer
    if not isinstance(answer, Tensor):
        named = answer.get("logits") if isinstance(answer, Mapping) else None
        found = getattr(answer, "logits", None) if named is None else named
    if not isinstance(found, Tensor):
        raise ValueError(
            f"model: expected logits, a tensor (images, classes), or an answer that calls one "
            f"logits; got {_described(answer)}{_unwrapped(answer)}"
        )
    if found.dim() != 2 or len(found) != images or not found.is_floating_point():
        raise ValueError(
            f"model: expected logits, floats ({images}, classes), for {images} images; got "
            f"{_described(found)}"
        )
    return found


def require_finite(logits: Tensor) -> None:
    """Accept logits (N, classes) whose largest is a finite number in every row.

    Raises:
        ValueError: It is not in some.
    """
    if not bool(_have_answers(logits)):
        raise ValueError(
            f"model: expected finite logits; got NaN or infinity for some of {len(logits)} "
            f"images; {REMEDY}"
        )


REMEDY = "look for NaN in the model's weights and for a division by 0 in how it normalises"


class CheckedModel:
    """A model whose answers are looked at on their way; `report` says what was wrong with them.

    What only their numbers tell is kept on their device until then: on a GPU, no pass waits.

    Raises:
        ValueError: On a call: the answer is no logits, has fewer than two classes, or no gradient
            where the images ask for one.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._sound: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, C, H, W)."""
        return self.seen(x, logits_of(self.model(x), len(x)))

    def seen(self, x: Tensor, logits: Tensor) -> Tensor:
        """The same logits, looked at, and so will be their gradient at `x`."""
        if logits.shape[1] < 2:
            raise ValueError(
                f"model: expected at least two classes, a logit for each; got "
                f"{_described(logits)}; give the other class a 0: "
                "lambda x: torch.nn.functional.pad(model(x), (1, 0))"
            )
        self._note(_have_answers(logits.detach()))
        if x.requires_grad and torch.is_grad_enabled():
            if not logits.requires_grad:
                raise ValueError(
                    "model: expected logits with a gradient at the images; got none: it computes "
                    "within torch.no_grad, detaches them, or does not look at the images"
                )
            x.register_hook(self._note_gradient)  # type: ignore[no-untyped-call]
        return logits

    def report(self) -> None:
        """Tell what was seen.

        Raises:
            ValueError: NaN or an infinity among the logits, or in their gradient.
        """
        if self._sound is not None and not bool(self._sound):
            raise ValueError(
                f"model: expected finite logits and gradients; got NaN or infinity for some "
                f"image; {REMEDY}"
            )

    def _note_gradient(self, gradient: Tensor) -> None:
        self._note(gradient.isfinite().all())

    def _note(self, sound: Tensor) -> None:
        self._sound = sound if self._sound is None else self._sound & sound


def _have_answers(logits: Tensor) -> Tensor:
    """Whether every row has a largest number that is finite; a single class may have no chance."""
    return logits.amax(1).isfinite().all()


def _unwrapped(answer: object) -> str:
    """How to get at the logits in an answer that holds them; the end of a message."""
    if isinstance(answer, Mapping):
        found = [repr(key) for key, value in answer.items() if isinstance(value, Tensor)]
    elif isinstance(answer, Sequence) and not isinstance(answer, str):
        found = [str(place) for place, value in enumerate(answer) if isinstance(value, Tensor)]
    else:
        found = []
    return f"; wrap it so that it gives them: lambda x: model(x)[{found[0]}]" if found else ""


def _described(answer: object) -> str:
    if isinstance(answer, Tensor):
        return f"{answer.dtype} {tuple(answer.shape)}".removeprefix("torch.")
    if isinstance(answer, Mapping):
        return f"{type(answer).__name__} with the keys {', '.join(map(str, answer)) or 'none'}"
    if isinstance(answer, Sequence) and not isinstance(answer, str):
        return f"a {type(answer).__name__} of {len(answer)}"
    return type(answer).__name__
