"""How alike are two pictures of people? An exported network needs numpy, Pillow and onnxruntime, and nothing else.

python docs/consume_onnx.py mpn.onnx first.jpg second.jpg
"""

import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model, *pictures = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
height, width = session.get_inputs()[0].shape[2:]  # ["batch", 3, height, width]


def read(path):
    """uint8 [3, H, W]: upright, RGB without transparency, at the network's size; it normalises the pixels itself."""
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)).transpose(2, 0, 1)


features = session.run(["embedding"], {"images": np.stack([read(p) for p in pictures])})[0]  # [2, D]
features /= np.linalg.norm(features, axis=1, keepdims=True)
print(f"{features[0] @ features[1]:.6f}")  # cosine, 1 = the same picture
