"""Where a defense is called: what it is given is looked at once, and what the model answers."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

from torch import Tensor

from advcomp.players.classifier.answers import CheckedModel, Model
from advcomp.players.image.pixels import require_images

P = ParamSpec("P")
DefenseOf = Callable[Concatenate[Model, Tensor, P], Tensor]
OnImages = Callable[Concatenate[Tensor, P], Tensor]


def defense(function: DefenseOf[P]) -> DefenseOf[P]:
    """A defense `function(model, images, ...)` that refuses what it must.

    Of no images there are no answers, (0, classes): a black one is asked for the classes. A
    defense that calls another one hands on what was looked at already.

    Raises:
        ValueError: Images that are no floats in [0, 1], a model that gives no logits or NaN.
    """

    @wraps(function)
    def checked(model: Model, images: Tensor, *args: P.args, **more: P.kwargs) -> Tensor:
        if isinstance(model, CheckedModel):
            return function(model, images, *args, **more)
        require_images(images)
        asked = CheckedModel(model)
        seen = images if len(images) else images.new_zeros(1, *images.shape[1:])
        scores = function(asked, seen, *args, **more)[: len(images)]
        asked.report()
        return scores

    return checked  # type: ignore[return-value]  # it also takes them by name


def image_filter(function: OnImages[P]) -> OnImages[P]:
    """A filter `function(images, ...)` that refuses what are no images, and gives none for none.

    Raises:
        ValueError: Images that are no floats in [0, 1].
    """

    @wraps(function)
    def checked(images: Tensor, *args: P.args, **more: P.kwargs) -> Tensor:
        require_images(images)
        return none_of_none(function)(images, *args, **more)

    return checked  # type: ignore[return-value]  # it also takes them by name


def none_of_none(function: OnImages[P]) -> OnImages[P]:
    """A function of images to images of the same shape that is not called where there are none."""

    @wraps(function)
    def checked(images: Tensor, *args: P.args, **more: P.kwargs) -> Tensor:
        return function(images, *args, **more) if len(images) else images.clone()

    return checked  # type: ignore[return-value]  # it also takes them by name
