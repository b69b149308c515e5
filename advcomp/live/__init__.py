"""A run while it goes on: what its folder tells now, as values, JSON lines and a page."""
