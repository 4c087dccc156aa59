"""Covered landmarks: the copy of a folder that the experiment makes, and its table."""

import json
import sys

import numpy as np
import pytest
import tiny
from PIL import Image

from ctd_jax.data import landmark_folder as folders
from experiments import presence

MAY_BE_ABSENT = ("left_eye_outer", "chin")


@pytest.fixture
def drawn(landmark_folder, monkeypatch):
    monkeypatch.setattr(presence, "LANDMARKS", MAY_BE_ABSENT)
    return landmark_folder(name="drawn")


def test_a_picture_is_turned_upright_before_it_is_covered(drawn, tmp_path):
    """A grey TIFF, not compressed, which Pillow would leave as it is where it opens it by its name."""
    image, exif = drawn / folders.read(drawn).images[0], Image.Exif()
    exif[0x112] = 8
    grey = Image.open(image).convert("L")
    grey = grey.crop((0, 0, grey.width - 9, grey.height))
    grey.transpose(Image.Transpose.ROTATE_270).save(image, "TIFF", exif=exif)
    presence.cover(drawn, tmp_path / "covered")
    copy = np.asarray(Image.open(tmp_path / "covered" / folders.read(tmp_path / "covered").images[0]).convert("L"))
    assert np.mean(copy == np.asarray(grey)) > 0.8


def test_a_rectangle_covers_one_of_the_landmarks_in_every_second_picture(drawn, tmp_path):
    presence.cover(drawn, tmp_path / "covered")
    before, after = folders.read(drawn), folders.read(tmp_path / "covered")
    assert after.landmarks.absent == MAY_BE_ABSENT
    assert (after.subjects, after.splits) == (before.subjects, before.splits)
    columns = [before.landmarks.names.index(name) for name in MAY_BE_ABSENT]
    for i, (old, new) in enumerate(zip(before.images, after.images, strict=True)):
        was, now = (
            np.array(Image.open(place / image).convert("RGB")).astype(int)
            for place, image in ((drawn, old), (tmp_path / "covered", new))
        )
        gone = np.isnan(after.xy[i]).all(axis=-1)
        assert gone.sum() == i % 2 and not np.delete(gone, columns).any()
        np.testing.assert_allclose(after.xy[i][~gone], before.xy[i][~gone], atol=0.01)
        changed = (was != now).any(axis=-1)
        (grey,) = np.unique(now[changed])
        for column in columns:
            x, y = before.xy[i, column].round().astype(int)
            assert (now[y, x] == grey).all() == gone[column]


@pytest.mark.slow
def test_the_table(drawn, teacher_file, tmp_path, monkeypatch, capsys):
    small = {key: value for key, value in tiny.KEYS.items() if not key.startswith("data.synthetic")}
    small |= {"teacher.weights": str(teacher_file), "train.steps": 2}
    small["constraints.delta.layers"] = ("stage1",)  # there is no other
    monkeypatch.setattr(presence, "KEYS", small)
    monkeypatch.setattr(presence, "HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["presence", str(drawn), f"--out={tmp_path / 'out'}", "--weights", "0", "0.1"])
    presence.main()
    found = json.loads((tmp_path / "presence.json").read_text())["weights"]
    assert "presence" not in found["0"]
    of_test = folders.read(tmp_path / "out" / "covered")
    test = np.array([split == "test" for split in of_test.splits])
    columns = [of_test.landmarks.names.index(name) for name in MAY_BE_ABSENT]
    assert found["0.1"]["presence"]["n_absent"] == np.isnan(of_test.xy[test][:, columns, 0]).sum() > 0
    assert found["0.1"]["cross_entropy"] > 0 and "0.1" in capsys.readouterr().out
