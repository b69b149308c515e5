"""The recipe of the model in the ONNX starter: ten levels of brightness, in some 400 bytes.

    cd advcomp/tournament/competitor/starters/onnx
    python ../../../../../tests/support/brightness_model.py >model.onnx

An image's brightness b is the mean of its values in [0, 1]. Class c stands for p = (c + 0.5) / 10;
the nearest p has the largest 2 b p - p^2, which is linear in b.
"""

import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper

CLASSES = 10


def brightness_model() -> bytes:
    """The model: images (images, 3, height, width) to scores (images, 10)."""
    prototypes = (np.arange(CLASSES, dtype=np.float32) + 0.5) / CLASSES
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["images"], ["brightness"], axes=[1, 2, 3]),
            helper.make_node("Flatten", ["brightness"], ["column"]),
            helper.make_node("Gemm", ["column", "slopes", "offsets"], ["scores"]),
        ],
        "brightness",
        [
            helper.make_tensor_value_info(
                "images", TensorProto.FLOAT, ["images", 3, "height", "width"]
            )
        ],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["images", CLASSES])],
        [
            numpy_helper.from_array(2 * prototypes.reshape(1, CLASSES), "slopes"),
            numpy_helper.from_array(-(prototypes**2), "offsets"),
        ],
    )
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="advcomp")
    return bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    sys.stdout.buffer.write(brightness_model())
