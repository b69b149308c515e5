"""How classifiers are made: networks, weights, recipes, training."""
