"""The defense that defense.toml names, around all classifier*.safetensors beside it."""

from pathlib import Path

from advcomp.players.contract import defense_main
from advcomp.players.defense_catalogue import load_defense

defense = load_defense(Path(__file__).parent)
defense_main(defense.labels, batch_size=defense.batch_size)
