"""The contract: what a dataset, an image, a submission and a verdict are."""
