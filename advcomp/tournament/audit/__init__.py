"""`advcomp audit`: a share of a run once more, under other conditions."""
