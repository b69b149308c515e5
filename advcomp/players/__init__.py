"""What runs inside the box: attacks, defenses and classifiers (needs torch)."""

import os

# Before torch is imported, which reads it once. Its threads would spin while they wait for each
# other, and whatever else runs on the machine, another training or box, would wait in earnest.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
