"""A run in a notebook: played or loaded, as data frames and images (extra `frames`)."""
