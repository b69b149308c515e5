"""The boxes that strangers' programs run in."""
