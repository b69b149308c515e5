"""What an entry takes to start, apart from what it takes for an image."""

from collections.abc import Sequence
from dataclasses import dataclass

APART = 2
"""How many times as large as the smallest run the largest must be to tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTimes:
    """Seconds of wall time."""

    start: float
    per_image: float

    def of(self, images: int) -> float:
        """What a run of so many images takes."""
        return self.start + self.per_image * images


def run_times(runs: Sequence[tuple[int, float]]) -> RunTimes | None:
    """The straight line nearest to the wall seconds of runs (least squares), not below 0.

    Args:
        runs: Images and wall seconds of each.

    Returns:
        None where no run has at least `APART` times the images of another.
    """
    sizes = [images for images, _ in runs]
    if not sizes or max(sizes) < APART * min(sizes):
        return None
    mean_images = sum(sizes) / len(runs)
    mean_seconds = sum(seconds for _, seconds in runs) / len(runs)
    spread = sum((images - mean_images) ** 2 for images in sizes)
    covariance = sum((images - mean_images) * (s - mean_seconds) for images, s in runs)
    per_image = min(max(0.0, covariance / spread), mean_seconds / mean_images)
    return RunTimes(start=mean_seconds - per_image * mean_images, per_image=per_image)
