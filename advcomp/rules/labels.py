"""Labels: integers that mean nothing to the referee, and two values that are no label."""

LARGEST_LABEL = 32_766
"""The largest label that a dataset may have; the smallest is 0."""

OUT_OF_RANGE = 32_767
"""Stands for every larger number that a defense wrote: wrong for any image."""

MISSING = -1
"""The label of an image that a defense said nothing usable about."""
