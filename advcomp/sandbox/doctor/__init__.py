"""What `advcomp doctor` and `advcomp gc` look at: what works here, and what was left behind."""
