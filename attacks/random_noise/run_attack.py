"""Random signs at full strength: what an attack does that knows nothing. Needs numpy and Pillow.

The noise is seeded from the image and the budget: an image gets the same noise in every run.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
from PIL import Image

inputs, outputs, max_epsilon = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
for path in sorted(inputs.glob("*.png")):
    clean = np.array(Image.open(path), dtype=np.int16)
    digest = hashlib.sha256(clean.tobytes() + str(max_epsilon).encode()).digest()
    signs = np.random.default_rng(int.from_bytes(digest)).choice([-1, 1], clean.shape)
    adversarial = np.clip(clean + max_epsilon * signs, 0, 255).astype(np.uint8)
    Image.fromarray(adversarial).save(outputs / path.name)
