"""The command `next`; the order itself is tested in `review/test_order.py`."""

import csv
import hashlib
import json
import shutil

import numpy as np
import pytest
import tiny
from PIL import Image

from ctd_jax import Predictor, run_folder
from ctd_jax.data import splits
from ctd_jax.errors import UserError
from ctd_jax.review import journal

MODULE = "ctd_jax.next_pictures"


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(landmark_folder):
    """24 drawn pictures of 12 people without labels: the first 16 are those of `finished_run`, number 16 is of one of
    its people, and number 23 alone is labelled."""
    root = landmark_folder(people=12, size=48)
    table = rows(root / "landmarks.csv")
    for i, row in enumerate(table):
        for column in row:
            if i != 23 and column not in ("image", "subject"):
                row[column] = ""
        del row["split"]
    table[16]["subject"] = table[0]["subject"]
    with (root / "landmarks.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(table)
    return root


@pytest.fixture(scope="module")
def mirrored_run(finished_run, tmp_path_factory):
    """The finished run, as if mirror images were averaged."""
    run = tmp_path_factory.mktemp("mirrored") / "run"
    shutil.copytree(finished_run[0], run)
    content = json.loads((run / "config.json").read_text())
    content["eval"]["mirror"] = True
    (run / "config.json").write_text(json.dumps(content))
    return run


@pytest.fixture
def ask(cli, folder, tmp_path):
    """The rows of the list, what is printed, and the exit code."""

    def call(run, *arguments, pictures=folder):
        given = arguments if "--order=random" in arguments else ("--order=error", *arguments)
        code, out, error = cli(MODULE, f"--workdir={run}", pictures, f"--out={tmp_path / 'next.csv'}", *given)
        return (rows(tmp_path / "next.csv") if (tmp_path / "next.csv").exists() else []), out + error, code

    return call


def test_what_is_labelled_or_of_the_run_s_people_is_left_out_and_said(ask, mirrored_run):
    found, said, code = ask(mirrored_run, "--n=99")
    assert code == 0
    assert sorted(row["picture"] for row in found) == [f"images/{i:03d}.png" for i in range(17, 23)]
    assert "16 pictures that are in the training, val or test of the run" in said
    assert "1 pictures that are labelled, or marked done, already" in said
    assert "1 pictures that are of people (column `subject`)" in said
    assert [row["rank"] for row in found] == [str(i) for i in range(1, 7)]
    assert [row["why"] for row in found] == ["random", *["expected error"] * 3, "random", "expected error"]


def test_the_error_is_how_far_a_picture_and_its_mirror_image_are_apart(ask, mirrored_run, folder):
    """From the predictions for the picture and for its mirror image, made one by one without any averaging."""
    found, said, _ = ask(mirrored_run, "--n=99")
    assert "the points of a picture from those of its mirror image" in said
    predictor = Predictor(mirrored_run, mirror=False)
    order = _swapped(folder, predictor.names)
    for row in found:
        picture = np.asarray(Image.open(folder / row["picture"]).convert("RGB"))
        here, there = predictor([picture, np.ascontiguousarray(picture[:, ::-1])]).xy
        turned = there[order] * [-1, 1] + [picture.shape[1] - 1, 0]
        expected = np.linalg.norm(here - turned, axis=-1).mean()
        assert float(row["expected_error_px"]) == pytest.approx(expected, abs=0.02)


def _swapped(folder, names):
    """Index of each landmark's other side."""
    other = {a: b for pair in json.loads((folder / "dataset.json").read_text())["flip_pairs"] for a, b in
             (pair, pair[::-1])}  # fmt: skip
    return [names.index(other.get(name, name)) for name in names]


def test_several_networks_and_how_far_apart_they_are(ask, finished_run, folder, tmp_path):
    run = finished_run[0]
    other = tiny.other_weights(run, tmp_path / "other", 1)
    found, said, code = ask(f"{run},{other}", "--n=3", "--share=0")
    assert code == 0 and "the points of several networks from their mean" in said
    assert [row["why"] for row in found] == ["expected error"] * 3
    spread = Predictor([run, other])([folder / row["picture"] for row in found]).spread.mean(axis=1)
    assert [float(row["expected_error_px"]) for row in found] == pytest.approx(spread.tolist(), abs=0.002)


def test_a_run_that_knows_no_error_lists_pictures_that_are_unlike(ask, finished_run):
    found, said, code = ask(finished_run[0], "--n=5")
    assert code == 0 and "not known" in said
    assert [row["why"] for row in found] == ["random", *["unlike the others"] * 3, "random"]
    assert {row["expected_error_px"] for row in found} == {""}


def test_a_random_list_asks_no_network(ask, finished_run, cli, folder, tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("it was asked")

    monkeypatch.setattr(Predictor, "__init__", never)
    found, said, code = ask(finished_run[0], "--order=random", "--n=5")
    assert code == 0 and "5 of 6 pictures, 5 of them random" in said
    assert {(row["why"], row["expected_error_px"]) for row in found} == {("random", "")}
    monkeypatch.chdir(tmp_path)
    assert cli(MODULE, f"--workdir={finished_run[0]}", folder, "--n=5")[0] == 0  # as without the flag
    assert rows(tmp_path / "next.csv") == found
    assert "--share goes with --order=error" in ask(finished_run[0], "--order=random", "--share=1")[1]


def test_the_same_list_again_and_a_longer_one_begins_alike(ask, mirrored_run):
    few, *_ = ask(mirrored_run, "--n=4")
    assert few == ask(mirrored_run, "--n=4")[0] == ask(mirrored_run, "--n=6")[0][:4]
    drawn = {tuple(row["picture"] for row in ask(mirrored_run, "--n=6", "--share=1", f"--seed={i}")[0]) for i in (0, 1)}
    assert len(drawn) == 2


def test_a_picture_that_can_t_be_read_is_named_and_the_others_are_listed(ask, mirrored_run, folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / "images/018.png").write_bytes(b"no picture")
    found, said, code = ask(mirrored_run, "--n=99", pictures=copy)
    assert code == 2 and "018.png" in said
    assert sorted(row["picture"][-7:] for row in found) == ["017.png", *(f"0{i}.png" for i in range(19, 23))]


def test_what_a_rater_has_marked_done_is_left_out(ask, mirrored_run, folder, tmp_path):
    root, done = shutil.copytree(folder, tmp_path / "faces"), "images/020.png"
    edits = [
        {"id": str(i), "kind": "edit", "image": image, "points": {}, "done": is_done}
        for i, (image, is_done) in enumerate([(done, True), ("images/021.png", True), ("images/021.png", False)])
    ]
    journal.Journal(journal.path_of(root, "anna")).append(edits)
    found, said, _ = ask(mirrored_run, "--n=99", "--order=random", pictures=root)
    assert sorted(row["picture"] for row in found) == [f"images/{i:03d}.png" for i in (17, 18, 19, 21, 22)]
    assert "2 pictures that are labelled, or marked done, already" in said


def test_of_pictures_that_were_arrays_only_subjects_are_compared_which_is_said(ask, finished_run, tmp_path):
    run, words = shutil.copytree(finished_run[0], tmp_path / "run"), "pictures given as arrays can't be told again"
    assert words not in ask(run, "--order=random")[1]
    table = splits.read(run / "split.csv")
    (run / "split.csv").write_text(splits.text([(f"array {i}", *row[1:3], "0") for i, row in enumerate(table)]))
    assert f"{run}: {words} as files" in ask(run, "--order=random")[1]


def test_mistakes(ask, cli, mirrored_run, folder, tmp_path):
    assert "expected one folder" in cli(MODULE, f"--workdir={mirrored_run}")[2]
    assert "no such folder" in cli(MODULE, f"--workdir={mirrored_run}", tmp_path / "no")[2]
    assert "--workdir is missing" in cli(MODULE, folder)[2]
    assert "leave out --boxes" in ask(mirrored_run, "--boxes=b.csv")[1]
    few = tmp_path / "few"
    (few / "images").mkdir(parents=True)
    shutil.copyfile(folder / "images/000.png", few / "images/000.png")
    found, said, code = ask(mirrored_run, pictures=few)
    assert code == 2 and not found
    assert "no picture to label next; left out: 1 pictures that are in the training" in said


def test_what_a_run_before_has_learned_is_left_out_too(ask, mirrored_run, folder, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(mirrored_run, run)
    config = json.loads((run / "config.json").read_text())
    config["model"]["start"] = "before"
    (run / "config.json").write_text(json.dumps(config))
    digest = hashlib.sha256((folder / "images/018.png").read_bytes()).hexdigest()
    known = {"run": "before", "trained_on": [["x.png", "x.png", "train", digest]]}
    (run / "start.json").write_text(json.dumps(known))
    found, said, code = ask(run, "--n=99")
    assert code == 0, said
    assert sorted(row["picture"][-7:-4] for row in found) == ["017", "020", "021", "022"]  # 019 is of the same person


def test_domains_have_their_people(tmp_path):
    """Of a run of several domains, whose names stand before those of pictures and people."""
    from ctd_jax.review import candidates

    (tmp_path / "a.png").write_bytes(b"a")
    run_folder.begin(tmp_path, tiny.config("none"), [("hips/x.png", "hips/anna", "train", "0" * 64)])

    class Table:
        images, subjects = ("a.png",), ("anna",)

    for domain in ("hips", None):
        found = candidates.find(tmp_path, ("a.png",), Table, (), [tmp_path], domain)
        assert found.free == () and found.left_out == {"of its people": ("a.png",)}
    of_hand = [("hand/x.png", "hand/ben", "val", hashlib.sha256(b"b").hexdigest())]
    (tmp_path / "split.csv").write_text(splits.text([("hips/x.png", "hips/anna", "train", "0" * 64), *of_hand]))
    assert candidates.find(tmp_path, ("a.png",), Table, (), [tmp_path], "hand").free == ("a.png",)
    (tmp_path / "b.png").write_bytes(b"b")  # it says that the folder is of `hand`
    assert candidates.find(tmp_path, ("a.png", "b.png"), Table, (), [tmp_path]).free == ("a.png",)
    with pytest.raises(UserError, match="--domain=hnad: .* has no picture of it"):
        candidates.find(tmp_path, ("a.png",), Table, (), [tmp_path], "hnad")


def test_the_command_that_labels_them_is_said_where_it_has_the_same_list(cli, tmp_path):
    (tmp_path / "new").mkdir()
    run_folder.begin(tmp_path / "run", tiny.config("none"), [("hips/x.png", "hips/anna", "train", "0" * 64)])
    Image.new("L", (4, 4)).save(tmp_path / "new/a.png")
    given = [f"--workdir={tmp_path / 'run'}", tmp_path / "new", f"--out={tmp_path / 'next.csv'}"]
    code, said, error = cli(MODULE, *given, "--domain=hips")
    assert code == 0, error
    review = f"Label them: ctd-jax review {tmp_path / 'new'} --workdir={tmp_path / 'run'} --order=random"
    assert said.splitlines()[-1] == f"{review} --domain=hips"
    assert cli(MODULE, *given)[1].splitlines()[-1] == review
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    for more in (["--seed=1"], [f"--workdir={tmp_path / 'run'},{tmp_path / 'other'}"]):
        said = cli(MODULE, *given, *more)[1].splitlines()[-1]
        assert said == "Label those: `ctd-jax review` may begin with others"


def test_people_are_known_by_their_pictures_where_the_run_had_no_names(tmp_path):
    from ctd_jax.review import candidates

    (tmp_path / "a.png").write_bytes(b"a")
    (tmp_path / "b.png").write_bytes(b"b")
    row = ("old.png", "old.png", "test", hashlib.sha256(b"a").hexdigest())
    run_folder.begin(tmp_path, tiny.config("none"), [row])

    class Table:
        images, subjects = ("a.png", "b.png"), ("anna", "anna")

    assert candidates.find(tmp_path, Table.images, Table, (), [tmp_path]).free == ()


def test_people_of_the_run_that_taught_it_are_not_new(tmp_path):
    from ctd_jax.review import candidates

    config = tiny.config("none", teacher__run=str(tmp_path / "teacher"))
    config.constraints.kd.weight = 1.0
    run_folder.begin(tmp_path / "teacher", tiny.config("none"), [("x.png", "anna", "train", "0" * 64)])
    run_folder.begin(tmp_path / "student", config, [("y.png", "ben", "train", "1" * 64)])
    (tmp_path / "a.png").write_bytes(b"a")

    class Table:
        images, subjects = ("a.png",), ("anna",)

    found = candidates.find(tmp_path, Table.images, Table, (), [tmp_path / "student"])
    assert found.free == () and found.left_out == {"of its people": ("a.png",)}
