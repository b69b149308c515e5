"""Images as tensors: levels and floats, randomness of their own, other sizes."""
