"""Labels that a network contradicts; the network is one that finds the truth and known noise. `tests/test_check.py` and
`tests/tasks/test_segmentation.py` ask real runs."""

import csv
import dataclasses
import json
import shutil
from types import SimpleNamespace

import landmark_rows
import numpy as np
import pytest
import segmentation_folder
import tiny
from PIL import Image

from ctd_jax.data import drawn_anatomies, splits
from ctd_jax.errors import UserError
from ctd_jax.inspection import contradicted, reading
from ctd_jax.tasks import start_run


class Painter:
    def points(self, index, xy):
        return f"points of {index}"

    def outlines(self, index, found):
        return f"outlines of {index}"


def predictor(names, found, boxes=False):
    """A stand-in for `Predictor`: `found` gives the result for paths."""

    class Stub:
        def __init__(self, workdir, domain=None):
            self.trained = SimpleNamespace(boxes=boxes)
            self.names = tuple(names[domain] if domain else names)

        def __call__(self, paths, boxes=None):
            assert boxes is None
            return found(paths)

    return Stub


def write_split(workdir, folder, train, names=None, unlabelled=(), **keys):
    workdir.mkdir(exist_ok=True)
    (workdir / "config.json").write_text(tiny.config("none", **keys).to_json())
    with (workdir / "split.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "subject", "split", "sha256"))
        for row, name in enumerate(names or folder.table.images):
            split = "train" if row in train else "unlabelled" if row in unlabelled else "test"
            writer.writerow((name, "s", split, folder.sha256[row]))
    return workdir


@pytest.fixture(scope="module")
def folder(landmark_folder, tmp_path_factory):
    root = shutil.copytree(landmark_folder(people=24, shots=1), tmp_path_factory.mktemp("asked") / "faces")
    return reading.read(root)


def of_truth(folder, monkeypatch, names=None, unlike=None):
    table = folder.table
    noise = np.random.default_rng(0).normal(0, 1, table.xy.shape)
    names = names or table.landmarks.names

    def found(paths):
        rows = [table.images.index(path.relative_to(folder.root).as_posix()) for path in paths]
        xy = np.stack([table.xy[rows][:, table.landmarks.names.index(name)] for name in names], 1)
        scores = np.full(len(rows), np.nan) if unlike is None else unlike[rows]
        return SimpleNamespace(xy=xy + noise[rows][:, : len(names)], unlike=scores)

    monkeypatch.setattr(contradicted, "Predictor", predictor(names, found))


def test_the_wrong_label_is_named(folder, monkeypatch, tmp_path):
    of_truth(folder, monkeypatch)
    root = shutil.copytree(folder.root, tmp_path / "faces")
    row = landmark_rows.read(root)[20]
    landmark_rows.change(root, {20: {"chin_x": row["nasion_x"], "chin_y": row["nasion_y"]}})
    wrong = reading.read(root)
    moved = SimpleNamespace(table=folder.table, root=root)
    of_truth(moved, monkeypatch)
    found, unlike = contradicted.findings(wrong, write_split(tmp_path / "run", wrong, range(10)), None, Painter(), 5)
    assert unlike.number == 0, "the run can't tell"
    assert (found.number, found.spoils, found.items[0].rows) == (1, False, (20,))
    names = folder.table.landmarks.names
    apart = np.linalg.norm(folder.table.xy[20, names.index("chin")] - folder.table.xy[20, names.index("nasion")])
    said = float(found.items[0].text.split(" lies ")[1].split(" px")[0])
    assert found.items[0].text.startswith("chin lies ") and abs(said - apart) < 4, "px; the noise is 1 px"
    assert found.items[0].images == (("points of 20", "images/020.png"),)


def test_pictures_of_the_training_are_not_asked_about(folder, tmp_path, caplog):
    rows = contradicted.not_trained_on(folder, write_split(tmp_path / "run", folder, range(15)))
    assert rows.tolist() == list(range(15, 24))
    for keys, expected in (({"data__unlabelled": "rows"}, [15, 16, 17, 18, 19, 21, 22]), ({}, list(range(15, 24)))):
        workdir = write_split(tmp_path / "run", folder, range(15), unlabelled=[20, 23], **keys)
        assert contradicted.not_trained_on(folder, workdir).tolist() == expected
    write_split(tmp_path / "run", folder, range(15))
    before = write_split(tmp_path / "before", folder, [21])
    config = tiny.config("none", model__start=str(before)).to_json()
    (tmp_path / "run" / "config.json").write_text(config)
    rows_before = [list(row) for row in splits.read(before / "split.csv") if row[2] == "train"]
    (tmp_path / "run" / start_run.FILE).write_text(json.dumps({"trained_on": rows_before}))
    rows = contradicted.not_trained_on(folder, tmp_path / "run")
    assert rows.tolist() == [15, 16, 17, 18, 19, 20, 22, 23], "21 is known from the run that it went on from"
    arrays = [["array 3", "ann", "train", "0" * 64]]
    (tmp_path / "run" / start_run.FILE).write_text(json.dumps({"trained_on": arrays}))
    assert not caplog.records and len(contradicted.not_trained_on(folder, tmp_path / "run")) == 9
    assert "trained on arrays, which can't be told again as files" in caplog.text
    write_split(tmp_path / "run", folder, range(15))
    root = shutil.copytree(folder.root, tmp_path / "faces")
    twin = Image.open(root / "images/003.png").resize((96, 96), Image.Resampling.BICUBIC)
    Image.fromarray(np.asarray(twin)).resize((64, 64)).save(root / "images/020.png")
    rows = contradicted.not_trained_on(reading.read(root), tmp_path / "run")
    assert rows.tolist() == [15, 16, 17, 18, 19, 21, 22, 23]


def test_landmarks_of_a_run_in_another_order_and_of_few_pictures(folder, monkeypatch, tmp_path):
    """Eight pictures can tell what is usual, seven can't."""
    chin = folder.table.landmarks.names.index("chin")
    xy = folder.table.xy.copy()
    xy[20, chin] = xy[20, chin] - [0, 30]
    wrong = dataclasses.replace(folder, table=dataclasses.replace(folder.table, xy=xy))
    of_truth(folder, monkeypatch, names=folder.table.landmarks.names[chin:] + folder.table.landmarks.names[:chin])
    for train, number in ((16, 1), (17, 0)):
        workdir = write_split(tmp_path / "run", wrong, range(train))
        assert contradicted.findings(wrong, workdir, None, Painter(), 5)[0].number == number


def test_where_all_were_trained_on_nothing_is_claimed(folder, tmp_path):
    (found,) = contradicted.findings(folder, write_split(tmp_path / "run", folder, range(24)), None, Painter(), 5)
    assert "trained on all pictures" in found.items[0].text and not found.spoils


def test_pictures_unlike_the_training_data_are_named_where_the_run_can_tell(folder, monkeypatch, tmp_path):
    score = np.linspace(0.1, 0.9, 24)
    score[[17, 19]] = 1.5, 3
    of_truth(folder, monkeypatch, unlike=score)
    _, unlike = contradicted.findings(folder, write_split(tmp_path / "run", folder, [0]), None, Painter(), 5)
    assert [item.rows for item in unlike.items] == [(19,), (17,)]


def test_a_run_of_other_landmarks_is_refused(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(contradicted, "Predictor", predictor(["hip", "knee"], None))
    with pytest.raises(UserError, match="finds landmarks hip, knee, .* which the folder does not have"):
        contradicted.findings(folder, write_split(tmp_path / "run", folder, [0]), None, Painter(), 5)


def test_a_run_of_boxes_is_not_asked_about_a_folder_without(folder, monkeypatch, tmp_path):
    names = folder.table.landmarks.names
    monkeypatch.setattr(contradicted, "Predictor", predictor(names, None, boxes=True))
    with pytest.raises(UserError, match="trained on boxes .* have none; fill the columns box_x0, box_y0"):
        contradicted.findings(folder, write_split(tmp_path / "run", folder, [0]), None, Painter(), 5)


def test_a_class_map_that_the_network_contradicts(monkeypatch, tmp_path):
    root = segmentation_folder.write(tmp_path / "organs", people=14)
    domain = "heads"
    right = {p.name: np.array(Image.open(p)) for p in (root / domain).glob("*_mask.png")}
    segmentation_folder.change(root / domain / "9_mask.png", lambda classes: np.roll(classes, 12, 0))
    folder = reading.read(root)

    def found(paths):
        maps = []
        for path in paths:
            kind = path.parent.name
            true = right[f"{path.stem}_mask.png"] if kind == domain else np.array(
                Image.open(path.with_name(f"{path.stem}_mask.png")))  # fmt: skip
            maps.append(np.roll(true, 1, 1))
        return SimpleNamespace(class_maps=tuple(maps), unlike=np.full(len(maps), np.nan))

    classes = {name: tuple(of) for name, of in drawn_anatomies.CLASSES.items()}
    monkeypatch.setattr(contradicted, "Predictor", predictor(classes, found))
    monkeypatch.setattr(contradicted.Run, "read", lambda workdir: SimpleNamespace(domains=classes))
    workdir = write_split(tmp_path / "run", folder, [0], folder.table.names, task="segmentation")
    rows = contradicted.not_trained_on(folder, workdir).tolist()
    assert rows == list(range(1, len(folder)))
    segmentation_folder.change(root / folder.table.masks[0], lambda classes: np.roll(classes, 1, 0))  # since mended
    segmentation_folder.change(root / folder.table.masks[1], lambda classes: classes[:-1])  # does not fit any more
    folder = reading.read(root)
    assert contradicted.not_trained_on(folder, workdir).tolist() == rows
    named = [one for one in contradicted.findings(folder, workdir, None, Painter(), 5) if one.number]
    assert len(named) == 1 and [folder.table.images[item.rows[0]] for item in named[0].items] == ["heads/9.png"]
    assert "Dice" in named[0].items[0].text
    del classes["spines"]  # since this run was trained on one of the domains
    *named, unknown = (one for one in contradicted.findings(folder, workdir, None, Painter(), 5) if one.number)
    assert [folder.table.images[item.rows[0]] for one in named for item in one.items] == ["heads/9.png"]
    assert unknown.title == contradicted.UNKNOWN and [item.text for item in unknown.items] == ["spines: 14 pictures"]
    classes["heads"] = ("background", "brain")
    with pytest.raises(UserError, match="finds class maps background, brain; expected one that has learned background"):
        contradicted.findings(folder, workdir, None, Painter(), 5)
    classes["knees"] = classes.pop("heads")
    with pytest.raises(UserError, match="knows the domains knees, and the folder has heads, spines; give a run"):
        contradicted.findings(folder, workdir, None, Painter(), 5)


def test_a_run_of_another_kind_is_refused_before_a_domain_is_asked_for(folder, tmp_path):
    root = segmentation_folder.write(tmp_path / "organs", people=4)
    for one, learned, needed in (
        (folder, "segmentation", "landmarks"),
        (reading.read(root), "landmarks", "segmentation"),
        (folder, "recognition", "landmarks"),
    ):
        workdir = write_split(tmp_path / "run", one, [0], task=learned)
        for domain in (None, "heads"):
            with pytest.raises(UserError, match=f"learned {learned}, and the folder is for {needed}; give a run"):
                contradicted.findings(one, workdir, domain, Painter(), 5)
