"""The attack that attack.toml names, towards the targets, on all surrogate*.safetensors."""

from pathlib import Path

from advcomp.players.attack_catalogue import load_attack
from advcomp.players.contract import targeted_attack_main

attack = load_attack(Path(__file__).parent)
targeted_attack_main(attack.targeted, batch_size=attack.batch_size)
