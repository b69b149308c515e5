"""Adversarial attack/defense competitions, run safely on your own machine."""

__version__ = "0.1.0"
