"""Trains an attack network: one forward pass writes the adversarial image."""
