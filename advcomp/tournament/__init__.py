"""The referee: plans the jobs, runs them, reads what they leave, keeps the results."""
