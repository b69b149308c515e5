"""What runs inside the box: attacks, defenses and classifiers (needs torch).

The modules here are what a submission imports, and `datasets`, which `advcomp dataset` starts. The
folders hold what these are made of: `attack`, `defense`, `classifier`, `image`, and `fitting`, the
training loop of classifiers and denoisers.
"""

import os

# Before torch is imported, which reads it once. Its threads would spin while they wait for each
# other, and whatever else runs on the machine, another training or box, would wait in earnest.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
