"""What attacks are made of: objectives, and the hooks that make a variant of the loop."""
