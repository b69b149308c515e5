"""What runs inside the box: attacks, defenses and classifiers (needs torch)."""
