"""The attack network: its layers, its hint, what it costs, its graph."""
