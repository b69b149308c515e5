"""Jobs: planned under names that say nothing, staged, run, read and judged."""
