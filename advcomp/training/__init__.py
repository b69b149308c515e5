"""Training, whatever is trained: ranks and launchers, schedule, draws, reports and records."""
