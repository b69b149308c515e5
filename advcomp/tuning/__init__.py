"""Tuning: the settings of an entry, or the keys of a recipe, that score best in a tournament."""
