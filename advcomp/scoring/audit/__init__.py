"""What an audit makes of answers: sizes, intervals, and which differences are flagged."""
