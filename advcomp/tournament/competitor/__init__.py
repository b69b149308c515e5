"""A competitor's commands: begin a submission, try it, hand it in."""
