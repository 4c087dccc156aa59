"""python docs/serve_onnx.py FILE.onnx PICTURE [x0 y0 x1 y1]   (onnxruntime, numpy, pillow; the box in pixels of the
picture, (0, 0) the centre of its top-left one, for a network that was trained on boxes)"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

network = onnxruntime.InferenceSession(sys.argv[1])
about = {key: json.loads(value) for key, value in network.get_modelmeta().custom_metadata_map.items()}
S, refused = about["size"], f"{sys.argv[2]}: not a kind of picture that this example reads; save it as an 8-bit PNG"
if "landmarks" not in about:
    sys.exit(f"{sys.argv[1]}: finds no landmarks, which is all that this example prints")
try:
    with open(sys.argv[2], "rb") as opened:  # by its path, Pillow opens some pictures that it then doesn't turn upright
        file = Image.open(opened, formats=["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
        kind = {"I": "integer", "F": "float"}.get(file.mode[0])  # grey of more than 8 bits
        known = kind in about["grey"] if kind else ";16" not in str(file.tile)  # else the training saw none, or colour
        odd = file.format == "TIFF" and (file.n_frames > 1 or (kind and file.tag_v2.get(262) == 0))  # pages; a negative
        picture = ImageOps.exif_transpose(file)
except OSError as error:
    sys.exit(f"{refused} ({error})")
if not known or odd or (picture.has_transparency_data and picture.convert("RGBA").getextrema()[3] == (0, 0)):
    sys.exit(f"{refused}, not transparent")
if kind:  # the range that became 0 to 255 in training
    low, high = about["grey"][kind]
    values = np.nan_to_num((np.asarray(picture, float) - low) * (255 / (high - low)), posinf=0, neginf=0)
    picture = Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture.convert("RGBA")).convert("RGB")
try:
    box = np.array(sys.argv[3:] or [-0.5, -0.5, picture.width - 0.5, picture.height - 0.5], float).reshape(2, 2)
except ValueError:
    box = np.zeros((2, 2))
inside = (box[0] < box[1]).all() and (box[0] <= picture.size).all() and (box[1] >= 0).all()
if not inside or bool(sys.argv[3:]) != about["boxes"]:
    wanted = "x0 y0 x1 y1, two corners of a box in it" if about["boxes"] else "no box: it learned whole pictures"
    sys.exit(f"expected {wanted}; found {' '.join(sys.argv[3:]) or 'nothing'}")
scale = S / max(box[1] - box[0]) / (1 + 2 * about["margin"])  # network = scale * picture + offset
offset = (S - 1) / 2 - scale * box.mean(0)
first = np.maximum(np.ceil(offset + 0.5 - scale / 2 - 1e-6), 0).astype(int)  # whole pixels inside the picture
last = np.minimum(np.floor(offset + 0.5 + scale * (np.array(picture.size) - 0.5) + 1e-6), S).astype(int)
part = np.clip((np.stack([first, last]) - 0.5 - offset) / scale + 0.5, 0, picture.size).ravel()
square = Image.new("RGB", (S, S))
if (first < last).all():  # else less than a pixel of the square is picture
    square.paste(picture.resize(tuple(last - first), Image.Resampling.BILINEAR, tuple(part)), tuple(first))
found = dict(zip(about["output"], network.run(None, {"picture": np.asarray(square)[None]}), strict=True))
shares = [found[name][0] for name in ("confidence", "present") if name in found]  # present is -1: it can't be absent
unknown = about.get("never_annotated", {"landmarks": []})["landmarks"]  # no training picture had them
for name, (x, y), *others in zip(about["landmarks"], (found["xy"][0] - offset) / scale, *shares, strict=True):
    if name not in unknown:
        print(f"{name},{x:.3f},{y:.3f}", *(f"{one:.4f}" if one >= 0 else "" for one in others), sep=",")
