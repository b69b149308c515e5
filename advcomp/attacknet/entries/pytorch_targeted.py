"""One forward pass of a targeted attack network; train.toml says how it was trained."""

from pathlib import Path

from advcomp.attacknet.player import load_targeted_attack
from advcomp.players.contract import targeted_attack_main

targeted_attack_main(load_targeted_attack(Path(__file__).parent))
