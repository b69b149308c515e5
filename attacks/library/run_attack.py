"""The attack that attack.toml names, on all surrogate*.safetensors beside it."""

from pathlib import Path

from advcomp.players.attack_catalogue import load_attack
from advcomp.players.contract import attack_main

attack = load_attack(Path(__file__).parent)
attack_main(attack.untargeted, batch_size=attack.batch_size)
