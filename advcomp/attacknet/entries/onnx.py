"""A trained attack network, run by onnxruntime: run_attack.py INPUT OUTPUT MAX_EPSILON."""

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
for path in sorted(inputs.glob("*.png")):
    levels = np.asarray(Image.open(path, formats=["PNG"]).convert("RGB"))
    clean = levels.transpose(2, 0, 1)[None].astype(np.float32) / 255
    feed = {"clean": clean, "eps": eps}
    (adversarial,) = network.run(None, feed)
    written = np.rint(255 * adversarial[0].transpose(1, 2, 0)).astype(np.uint8)
    Image.fromarray(written).save(outputs / path.name)
