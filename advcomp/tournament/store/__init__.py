"""What a run's folder keeps: its state, the jobs' results, and what made them."""
