"""From labels to scores, rankings and the files that people read."""
