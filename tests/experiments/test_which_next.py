"""Which pictures the experiment labels, with tiny networks on drawn faces; about fifteen seconds."""

import json
import sys

import numpy as np
import pytest
import tiny

from ctd_jax.errors import UserError
from experiments import which_next
from experiments.which_next import Stage


@pytest.fixture
def study(landmark_folder, teacher_file, tmp_path, monkeypatch):
    """Starts the experiment, with steps of 2 labels up to 6, and every picture."""
    root = landmark_folder(people=16, shots=2, size=48)
    keys = tiny.KEYS | {"constraints.delta.weight": 0.0, "eval.mirror": True}
    monkeypatch.setattr(which_next, "SETTINGS", keys)
    monkeypatch.setattr(which_next, "OF_FOLDER", {root.name: {}})
    for name, value in (("STEP", 2), ("MOST", 6), ("THIN", 1), ("FIRST_STEPS", 2)):
        monkeypatch.setattr(which_next, name, value)

    def start():
        given = [f"--folder={root.parent}", f"--teacher={teacher_file}", f"--runs={tmp_path}", "--seeds=1"]
        monkeypatch.setattr(sys, "argv", ["", root.name, *given, f"--out={tmp_path / 'o.json'}"])
        which_next.main()
        return json.loads((tmp_path / "o.json").read_text())["folders"][root.name]

    return start, tmp_path / root.name


@pytest.mark.slow
def test_ways_have_as_many_labels_of_new_people_and_a_second_call_trains_nothing(study, monkeypatch):
    start, runs = study
    found = start()
    assert [(row["way"], row["labels"]) for row in found["rows"]] == [
        ("random", 2), *((way, labels) for way in which_next.WAYS for labels in (4, 6))
    ]  # fmt: skip
    labelled = {
        stage: json.loads((runs / f"{stage.name}.json").read_text())["labelled"]
        for way in which_next.WAYS
        for stage in (Stage("random", 2, 0), Stage(way, 4, 0), Stage(way, 6, 0))
    }
    for (way, labels, _), indices in labelled.items():
        assert len({i // 2 for i in indices}) == labels  # everybody has two pictures, one after the other
        assert max(indices) < 16  # the first half is train
        before = labelled[Stage(way if labels > 4 else "random", max(labels - 2, 2), 0)]
        assert indices[: len(before)] == before
    one, other = (labelled[Stage(way, 6, 0)] for way in ("random", "next"))
    assert one != other
    difference = [row for row in found["rows"] if (row["way"], row["labels"]) == ("next", 6)][0]["minus_random"]
    assert np.isfinite(difference["ci95"]).all() and difference["a"] != difference["b"]

    monkeypatch.setattr(which_next.Folder, "train", lambda *_: pytest.fail("trained again"))
    assert start() == found
    path = runs / "made_with.json"
    path.write_text(path.read_text().replace('"teacher weights": "', '"teacher weights": "x'))
    with pytest.raises(UserError, match="has networks with other teacher weights; give another --runs"):
        start()
