"""Trains an attack network: one forward pass writes the adversarial image."""

import advcomp.players  # noqa: F401 - which lets torch's threads wait; here nothing has imported it
