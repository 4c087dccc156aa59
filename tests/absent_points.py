"""A landmark folder of drawn faces in which points are absent, and one that nobody annotated in train."""

import json
import pathlib

import landmark_rows
import numpy as np
import tiny
from PIL import Image

MAY_BE_ABSENT = ("nose_tip", "chin")
NEVER = "left_jaw"  # in train; val and test have it


def write(root: pathlib.Path, **settings) -> pathlib.Path:
    """`tiny.write_folder`, where every second picture has its chin covered, and every third its nose."""
    tiny.write_folder(root, **settings)
    changes = {}
    for i, row in enumerate(landmark_rows.read(root)):
        gone = [name for name, each in (("chin", 2), ("nose_tip", 3)) if i % each == 0]
        picture = np.array(Image.open(root / row["image"]))
        for name in gone:
            x, y = (round(float(row[f"{name}_{axis}"])) for axis in "xy")
            picture[max(y - 6, 0) : y + 7, max(x - 6, 0) : x + 7] = 40 * i % 256
        Image.fromarray(picture).save(root / row["image"])
        gone += [NEVER] if row["split"] == "train" else []
        changes[i] = {f"{name}_{axis}": "" for name in gone for axis in "xy"}
    landmark_rows.change(root, changes)
    about(root, absent=list(MAY_BE_ABSENT))
    return root


def about(root: pathlib.Path, **keys) -> None:
    """Writes keys of dataset.json anew; None: without it."""
    content = json.loads((root / "dataset.json").read_text()) | keys
    (root / "dataset.json").write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
