"""A trained attack network, run by onnxruntime: run_attack.py INPUT OUTPUT MAX_EPSILON."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

inputs, outputs = Path(sys.argv[1]), Path(sys.argv[2])
eps = np.array([int(sys.argv[3]) / 255], np.float32)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
network = onnxruntime.InferenceSession(
    Path(__file__).with_name("network.onnx"), options, providers=["CPUExecutionProvider"]
)
size = network.get_inputs()[0].shape[2:]
# The labels that the network can lead to, where it aims.
labels = json.loads(network.get_modelmeta().custom_metadata_map.get("target_labels", "[]"))
targets = {}
if labels:
    rows = (inputs / "target_class.csv").read_text(encoding="utf-8").split()
    targets = {name: int(label) for name, _, label in (row.partition(",") for row in rows)}
for path in sorted(inputs.glob("*.png")):
    levels = np.asarray(Image.open(path, formats=["PNG"]).convert("RGB"))
    if list(levels.shape[:2]) != size:
        own, got = ("{}x{}".format(*each) for each in (size, levels.shape))
        sys.exit(f"{path.name}: expected {own}, as network.onnx was exported for; got {got}")
    clean = levels.transpose(2, 0, 1)[None].astype(np.float32) / 255
    feed = {"clean": clean, "eps": eps}
    if labels:
        if targets[path.name] not in labels:
            sys.exit(f"{path.name}: expected a target among {labels}; got {targets[path.name]}")
        feed["targets"] = np.array([targets[path.name]], np.int64)
    (adversarial,) = network.run(None, feed)
    if not np.isfinite(adversarial).all():
        sys.exit(f"{path.name}: expected numbers for all pixels; network.onnx gives NaN")
    written = np.rint(255 * adversarial[0].transpose(1, 2, 0)).astype(np.uint8)
    Image.fromarray(written).save(outputs / path.name)
