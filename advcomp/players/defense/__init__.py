"""How defenses are made: randomised smoothing, training of denoisers."""
