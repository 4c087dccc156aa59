"""python docs/serve_stablehlo.py FILE.stablehlo PICTURE [x0 y0 x1 y1]   (jax, flatbuffers, numpy, pillow; the box in
pixels of the picture, (0, 0) the centre of its top-left one, for a network that was trained on boxes)"""

import json
import sys

import numpy as np
from jax import export
from PIL import Image, ImageOps

with open(sys.argv[1], "rb") as file, open(f"{sys.argv[1]}.json", encoding="utf-8") as beside:
    network, about = export.deserialize(bytearray(file.read())), json.load(beside)
picture, S = ImageOps.exif_transpose(Image.open(sys.argv[2])).convert("RGB"), about["size"]
box = np.array(list(map(float, sys.argv[3:])) or [-0.5, -0.5, picture.width - 0.5, picture.height - 0.5]).reshape(2, 2)
scale = S / max(box[1] - box[0]) / (1 + 2 * about["margin"])  # network = scale * picture + offset
offset = (S - 1) / 2 - scale * box.mean(0)
first = np.maximum(np.ceil(offset + 0.5 - scale / 2 - 1e-6), 0).astype(int)  # whole pixels inside the picture
last = np.minimum(np.floor(offset + 0.5 + scale * (np.array(picture.size) - 0.5) + 1e-6), S).astype(int)
part = np.clip((np.stack([first, last]) - 0.5 - offset) / scale + 0.5, 0, picture.size).ravel()
square = Image.new("RGB", (S, S))
square.paste(picture.resize(tuple(last - first), Image.Resampling.BILINEAR, tuple(part)), tuple(first))
xy, confidence = network.call(np.asarray(square)[None])
for name, (x, y), sure in zip(about["landmarks"], (xy[0] - offset) / scale, confidence[0], strict=True):
    print(f"{name},{x:.3f},{y:.3f},{sure:.4f}")
