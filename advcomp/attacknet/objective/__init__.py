"""What the attack network minimises, and what an image goes through on its way there."""
