"""Tables that every recipe may have: what computes, on which ranks, and what is kept."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum

import torch
from pydantic import Field

from advcomp.errors import InvalidConfig
from advcomp.rules.toml_fields import one_of
from advcomp.rules.toml_file import Table

FLAG = "true or false"
_WEEK_S = 7 * 24 * 3600


class DeviceName(StrEnum):
    """What computes."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Precision(StrEnum):
    """What is computed in; weights keep 32 bits under bf16 and fp16."""

    FLOAT32 = "float32"
    BF16 = "bf16"
    FP16 = "fp16"
    FLOAT64 = "float64"

    @property
    def kept(self) -> torch.dtype:
        """What weights and images are kept in; bf16 and fp16 only compute in 16 bits."""
        return torch.float64 if self is Precision.FLOAT64 else torch.float32

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """Within it, convolutions and products are computed in 16 bits where this asks for it."""
        kinds = {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}
        kind = kinds.get(self, torch.bfloat16)
        context: AbstractContextManager[None] = torch.autocast(
            device.type, kind, enabled=self in kinds
        )
        return context

    def refuse_unknown(self, device: torch.device) -> None:
        """Check that a device has it.

        Raises:
            InvalidConfig: It does not.
        """
        asked = device.type == "cuda" and self is Precision.BF16
        if asked and not torch.cuda.is_bf16_supported():
            raise InvalidConfig(
                f'precision: expected one that the device "{device}" has; got "{self}"; take '
                '"fp16" or "float32"'
            )


class DeviceTable(Table):
    """[device]: what computes, and how."""

    name: DeviceName = Field(
        default=DeviceName.AUTO,
        strict=False,
        description=f"{one_of(DeviceName)} (auto: GPUs where there are any)",
    )
    precision: Precision = Field(
        default=Precision.FLOAT32, strict=False, description=one_of(Precision)
    )
    channels_last: bool = Field(default=False, description=FLAG)
    compile: bool = Field(default=False, description=f"{FLAG}: let torch.compile build kernels")
    recompute: bool = Field(
        default=False,
        description=f"{FLAG}: keep no activations of the network, compute them again",
    )


class ParallelTable(Table):
    """[parallel]: how the ranks that were started share the work."""

    model_ranks: int = Field(
        default=1,
        ge=1,
        description="ranks of a group that split the target classifiers, at least 1",
    )
    timeout_s: float = Field(
        default=600.0,
        gt=0,
        le=_WEEK_S,
        description="seconds that ranks wait for each other, above 0, at most a week",
    )


class OutputTable(Table):
    """[output]: how often training shows and keeps what it has."""

    evaluate_every: int = Field(default=200, ge=1, description="a number of steps, at least 1")
    checkpoint_every: int = Field(default=200, ge=1, description="a number of steps, at least 1")
    keep: int = Field(default=2, ge=1, description="how many checkpoints to keep, at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long, how fast and in what a module is trained, whatever it is.

    Args:
        seed: All draws are functions of it.
        steps: How many.
        minutes: After how many, of the clock, training ends however few steps it has taken; the
            rate then falls in time. None for no end but the last step.
        batch_size: Images of a step over all ranks.
        learning_rate: The peak of `learning_rate`.
        warm_up_steps: How many steps come to it.
        weight_decay: AdamW's.
        clip_norm: The largest norm of the gradient; infinity where it is not clipped.
        average: How much of the averaged weights a step keeps; 0 averages nothing.
        max_skipped: Steps in a row without a finite loss before training stops.
        precision: What is computed in.
        channels_last: Whether images and weights lie so in memory.
        workers: Processes that make batches; 0 makes them between the steps.
        evaluate_every, checkpoint_every: Steps.
        keep: How many checkpoints.
    """

    seed: int
    steps: int
    batch_size: int
    learning_rate: float
    warm_up_steps: int
    weight_decay: float
    clip_norm: float
    average: float
    max_skipped: int
    precision: Precision
    channels_last: bool
    workers: int
    evaluate_every: int
    checkpoint_every: int
    keep: int
    minutes: float | None = None

    @property
    def layout(self) -> torch.memory_format:
        """How images lie in memory."""
        return torch.channels_last if self.channels_last else torch.contiguous_format
