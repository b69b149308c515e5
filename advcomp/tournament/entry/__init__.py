"""Entries: who takes part, taken in, checked, and given a container image."""
