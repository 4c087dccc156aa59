"""The whole way of a lab: its TPS file in, a network, new pictures in millimetres, and label files out."""

import csv
import json

import numpy as np
import pytest
import tiny

import ctd_jax
from ctd_jax.data import synthetic

pytestmark = pytest.mark.slow

MM, SIDE = 0.5, 48  # of a pixel; pixels of a picture


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder with pictures and the file that tpsDig would have: points in order, y from the bottom."""
    root = tmp_path_factory.mktemp("lab")
    faces = tiny.write_folder(root / "drawn", people=8, shots=1, size=SIDE, split=False)
    lines = []
    with (faces / "landmarks.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            points = [(float(row[f"{name}_x"]), float(row[f"{name}_y"])) for name in synthetic.LANDMARKS]
            lines += [f"LM={len(points)}", *(f"{x} {SIDE - y}" for x, y in points)]
            lines += [f"IMAGE={row['image'].removeprefix('images/')}", f"ID={row['subject']}", f"SCALE={MM}"]
    (root / "lab.tps").write_text("\n".join(lines))
    (root / "names.txt").write_text("\n".join(synthetic.LANDMARKS))
    return root


def test_tps_in_and_millimetres_and_label_files_out(lab, teacher_file, cli, monkeypatch):
    monkeypatch.chdir(lab)
    images = "--images=drawn/images"

    def command(module, *arguments):
        code, out, error = cli(f"ctd_jax.{module}", *arguments)
        assert code == 0, error
        return out

    command("label_files", "import", "lab.tps", images, "--names=names.txt", "--out=faces")
    about = json.loads((lab / "faces" / "dataset.json").read_text())
    about |= {"flip_pairs": synthetic.FLIP_PAIRS, "measurements": {"mouth": ["left_mouth", "right_mouth"]}}
    (lab / "faces" / "dataset.json").write_text(json.dumps(about))
    small = tiny.arguments(teacher_file, data__root="faces", train__steps=2)
    command("main", "--config=ft", "--workdir=run", *small)
    flags = (f"--spacing={MM}", "--measurements=mm.csv", "--format=slicer,tps")
    out = command("predict", "--workdir=run", "drawn/images", "--out=new.csv", *flags)
    assert "new_tps.tps: 8 pictures, " in out and "lengths are in mm" in out

    pictures = sorted((lab / "drawn" / "images").iterdir())
    found = ctd_jax.Predictor(lab / "run")([str(picture) for picture in pictures])
    specimens = (lab / "new_tps.tps").read_text().split("LM=")[1:]
    for i, (picture, specimen) in enumerate(zip(pictures, specimens, strict=True)):
        count, *lines = specimen.splitlines()
        xy = np.array([line.split() for line in lines[: int(count)]], float)
        np.testing.assert_allclose(np.stack([xy[:, 0], SIDE - xy[:, 1]], -1), found.xy[i], atol=1e-6)
        assert lines[int(count) :] == [f"IMAGE={picture.name}", f"SCALE={MM}"]
        content = json.loads((lab / "new_slicer" / f"{picture.stem}.mrk.json").read_text())["markups"][0]
        assert content["coordinateSystem"] == "LPS" and content["coordinateUnits"] == "mm"
        marks = {point["label"]: point["position"] for point in content["controlPoints"]}
        np.testing.assert_allclose([marks[name][:2] for name in found.names], found.xy[i] * MM, atol=1e-6)
    a, b = (found.xy[:, list(found.names).index(name)] for name in ("left_mouth", "right_mouth"))
    with (lab / "mm.csv").open(newline="") as file:
        measured = list(csv.DictReader(file))
    assert {(row["measurement"], row["unit"]) for row in measured} == {("mouth", "mm")}
    np.testing.assert_allclose([float(row["value"]) for row in measured], np.hypot(*(a - b).T) * MM, atol=1e-3)

    command("label_files", "import", "new_tps.tps", images, "--names=names.txt", "--out=again")
    command("label_files", "import", "new_slicer", images, f"--spacing={MM}", "--out=slicer")
    for folder in ("again", "slicer"):
        with (lab / folder / "landmarks.csv").open(newline="") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: row["image"])
        again = [[[float(row[f"{name}_{axis}"]) for axis in "xy"] for name in found.names] for row in rows]
        np.testing.assert_allclose(again, found.xy, atol=1e-6)
