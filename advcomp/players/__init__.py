"""What runs inside the box: attacks, defenses and classifiers (needs torch).

The modules here are what a submission imports, and `datasets`, which `advcomp dataset` starts. The
folders hold what these are made of: `attack`, `defense`, `classifier`, `image`, and `fitting`, the
training loop of classifiers and denoisers.
"""
