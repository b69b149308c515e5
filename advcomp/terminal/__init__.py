"""What the command line shows and how it is interrupted; above the tournament, below `cli`."""
