"""One forward pass of a trained attack network; train.toml says how it was trained."""

from pathlib import Path

from advcomp.attacknet.player import load_attack
from advcomp.players.contract import attack_main

attack_main(load_attack(Path(__file__).parent))
