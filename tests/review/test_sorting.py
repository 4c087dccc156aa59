"""The list of the page: made beside it, kept by the journal, and what its random pictures tell."""

import csv
import json
import shutil

import numpy as np
import pytest
import review_server

from ctd_jax import Predictor
from ctd_jax.review import edits, expected, folder, journal, sorting
from ctd_jax.training import checkpoint


@pytest.fixture
def faces(landmark_folder, finished_run, tmp_path):
    """24 drawn pictures without labels, the first 16 of them those of the finished run; and the run."""
    root = landmark_folder(people=12, size=48)
    with (root / "landmarks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    empty = dict.fromkeys(set(rows[0]) - {"image", "subject"}, "")
    with (root / "landmarks.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [name for name in rows[0] if name != "split"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(row | empty for row in rows)
    return root, finished_run[0]


def ready(server):
    """What the server says of the order, once it is there."""
    while True:
        status, _, found = server.ask("POST", "/api/order", {"window": "w"})
        assert status == 200
        if found["ready"]:
            return found


def mark_done(server, image, points, number):
    entry = {"id": f"e{number}", "kind": "edit", "image": image, "points": points, "done": True}
    server.ask("POST", "/api/open", {"window": "w"})
    assert server.ask("POST", "/api/edits", {"window": "w", "edits": [entry]})[0] == 200


def test_the_list_is_that_of_the_command_and_the_journal_keeps_it(faces, cli, tmp_path):
    root, run = faces
    cli("ctd_jax.next_pictures", f"--workdir={run}", root, "--n=8", "--order=error", f"--out={tmp_path / 'next.csv'}")
    with (tmp_path / "next.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with review_server.serving(root, workdir=run, order=sorting.ERROR) as server:
        found = ready(server)
        assert found["images"] == [row["picture"] for row in rows]
        assert sorted(found["random"]) == sorted(row["picture"] for row in rows if row["why"] == "random")
        assert len(found["random"]) == 2 and "2 of the first 8 are random" in found["said"]
        assert "most unlike what it was trained on" in found["said"]  # this run knows no error
        mark_done(server, found["images"][0], {}, 0)
    (kept,) = [one for one in journal.read(server.path) if one["kind"] == "order"]
    assert (kept["images"], sorted(kept["random"])) == (found["images"], sorted(found["random"]))
    with review_server.serving(root, workdir=run, order=sorting.ERROR) as again:  # at once, though one of them is done
        opened = again.ask("POST", "/api/open", {"window": "w"})[2]["order"]
        assert opened["ready"] and opened["images"] == found["images"]
        mark_done(again, found["images"][1], {}, 1)
    assert len([one for one in journal.read(server.path) if one["kind"] == "order"]) == 1


def test_another_training_of_the_same_workdir_gets_another_list(faces, tmp_path):
    root, run = faces
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    with review_server.serving(root, workdir=copy, order=sorting.ERROR) as server:
        first = ready(server)
        mark_done(server, first["images"][0], {}, 0)
    content = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(content | {"seed": 5}))
    with review_server.serving(root, workdir=copy, order=sorting.ERROR) as server:
        assert set(ready(server)["images"]) == set(first["images"][1:])


def test_the_error_on_new_pictures_is_that_of_the_random_ones_alone(faces):
    root, run = faces
    predictor = Predictor(run)
    shift = {}

    def predict(image):
        return {name: {"x": 1.0, "y": 2.0, "state": "placed", "how": "predicted"} for name in predictor.names}

    with review_server.serving(root, workdir=run, order=sorting.ERROR, predict=predict) as server:
        found = ready(server)
        assert "known once 2 of the 2 random ones are done (0 so far)" in found["estimate"]
        for number, image in enumerate(found["images"]):  # off by 10 times as much where they are not random
            shift[image] = (number + 1) * (1 if image in found["random"] else 10)
            where = {"x": 1.0 + shift[image], "y": 2.0, "state": "placed", "how": "hand"}
            mark_done(server, image, dict.fromkeys(predictor.names, where), number)
        said = ready(server)["estimate"]
    distance = f"{np.mean([shift[image] for image in found['random']]):.2f}"
    assert distance == "3.00"  # the first and the fifth
    assert f"new pictures: {distance} px" in said and "by 2 random pictures of 2 people" in said


def test_without_a_run_it_is_as_in_the_folder_or_random(faces):
    root, _ = faces
    with review_server.serving(root) as server:
        found = ready(server)
        assert (found["images"], found["random"], found["estimate"]) == ([], [], "")
        assert found["said"] == "As in the folder"
    with review_server.serving(root, order=sorting.RANDOM) as server:
        found = ready(server)
        assert len(found["images"]) == 24 and found["images"] != sorted(found["images"])
        assert found["said"] == "In random order, first one picture of everybody" and found["estimate"] == ""


def test_a_run_that_was_trained_on_boxes_looks_into_them(faces, monkeypatch):
    root, run = faces
    best, looked = checkpoint.best, []
    monkeypatch.setattr(checkpoint, "best", lambda workdir: (best(workdir)[0], best(workdir)[1] | {"boxes": True}))
    look = expected.look
    monkeypatch.setattr(expected, "look", lambda *given: looked.append(given[2]) or look(*given))
    head, *lines = (root / "landmarks.csv").read_text().splitlines()
    boxed = [f"{head},box_x0,box_y0,box_x1,box_y1", *(f"{line},4,6,40,44" for line in lines[:18])]
    (root / "landmarks.csv").write_text("\n".join(boxed) + "\n")
    with review_server.serving(root, workdir=run, order=sorting.ERROR) as server:
        assert sorted(ready(server)["images"]) == ["images/016.png", "images/017.png"]  # the others have no box
    assert {tuple(box.box) for boxes in looked for box in boxes.values()} == {(4, 6, 40, 44)}


def test_a_run_that_can_t_be_asked_leaves_the_list_as_it_is(faces, tmp_path):
    root, run = faces
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "split.csv").write_text("nonsense")
    with review_server.serving(root, workdir=copy, order=sorting.ERROR) as server:
        found = ready(server)
        assert found["said"].startswith("Not sorted: ") and "split.csv is damaged" in found["said"]
        assert found["images"] == []


@pytest.mark.parametrize("lacks", ["run", "sign", "images", "random"])
def test_an_order_in_the_journal_is_whole(lacks):
    entry = {"id": "o", "kind": "order", "run": "r", "sign": "", "images": ["a.png"], "random": []}
    assert edits.readable(entry) == entry
    with pytest.raises(ValueError, match="expected run, sign, images and random"):
        edits.readable({key: value for key, value in entry.items() if key != lacks})
    with pytest.raises(ValueError, match="a page sends edits"):
        edits.of_page(entry)


def test_the_list_is_of_one_domain_of_the_run(faces):
    root, run = faces
    reviewed = folder.read(root)
    order = sorting.Sorting(reviewed, (), sorting.RANDOM, run)
    order.start()
    order.stop()
    kept = order.new_entries()
    assert order.images and sorting.Sorting(reviewed, kept, sorting.RANDOM, run).images == order.images
    of_hips = sorting.Sorting(reviewed, kept, sorting.RANDOM, run, "hips")
    assert of_hips.images == ()
    of_hips.start()
    of_hips.stop()
    assert of_hips.said.startswith("Not sorted: --domain=hips: ")  # the run has no such
