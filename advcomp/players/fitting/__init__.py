"""The training loop that classifiers and denoisers share."""
