"""The command `labels`; what it does is tested in `labels`."""

import json

import label_tables
import pytest

from ctd_jax.labels import by_name
from ctd_jax.labels.context import Context, Pictures
from ctd_jax.labels.table import Point

MODULE = "ctd_jax.label_files"


@pytest.fixture
def place(tmp_path, monkeypatch):
    label_tables.draw(tmp_path / "pictures")
    label_tables.put(tmp_path, label_tables.labels(subject="anna"), "tps")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_in_and_out(place, cli):
    """TPS in, COCO and TPS out, and the TPS again: the same points."""
    (place / "names.txt").write_text("tip\nbase\nleft hinge\n")
    code, out, error = cli(MODULE, "import", "labels.tps", "--images=pictures", "--out=f", "--names=names.txt")
    assert code == 0 and out.startswith("f: 2 pictures, 6 points of 3 landmarks")
    assert "labels.tps is taken for tps; if that is wrong, --from says the format" in error
    code, out, error = cli(MODULE, "export", "f", "--to=coco", "--out=out.json")
    assert (code, out) == (0, "out.json: 2 pictures, 6 points of 3 landmarks\n")
    assert "2 pictures have a spacing, mm of a pixel: without it" in error
    assert json.loads((place / "out.json").read_text())["annotations"][0]["keypoints"][:3] == [3.0, 4.0, 2]
    code, _, _ = cli(MODULE, "export", "f", "--to=tps", "--out=again.tps")
    assert code == 0 and (place / "again.tps").read_text() == (place / "labels.tps").read_text()


@pytest.mark.parametrize(("name", "mm"), [("slicer", 1), ("fcsv", 1), ("tps", 0.5)])
def test_the_spacing_in_slicer_may_be_another_than_that_of_the_folder(name, mm, place, cli):
    """Of 0.5 mm; a picture without any was opened in Slicer. Any other format gets it where a picture has none."""
    cli(MODULE, "import", "labels.tps", "--images=pictures", "--out=f", "--names=tip,base,left hinge")
    out = "out.tps" if name == "tps" else "out"
    code, _, _ = cli(MODULE, "export", "f", f"--to={name}", f"--out={out}", "--spacing=1")
    labels = by_name.read(place / out, name, Context(Pictures(place / "pictures"), label_tables.NAMES, (1.0, 1.0)))
    assert code == 0 and labels.pictures[0].points["tip"] == Point(3, 4)
    assert labels.pictures[0].spacing == (None if mm == 1 else (mm, mm))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["labels.tps", "--out=f"], "expected import or export or from-review or raters, and one file or folder"),
        (["import", "labels.tps", "--out=f"], "--images is missing"),
        (["import", "labels.tps", "--images=pictures"], "--out is missing"),
        (["import", "labels.tps", "--images=nowhere", "--out=f"], "--images: nowhere is no folder"),
        (["import", "nowhere.tps", "--images=pictures", "--out=f"], "nowhere.tps: no such file"),
        (["import", "labels.tps", "--images=pictures", "--out=f", "--from=coko"], "nearest is coco"),
        (["import", "labels.tps", "--images=pictures", "--out=f.csv"], "files in a folder"),
        (["import", "labels.tps", "--images=pictures", "--out=no/f"], "no is no folder; make it first"),
        (
            ["import", "labels.tps", "--images=pictures", "--out=f", "--names=a,a,b"],
            "--names: expected different names",
        ),
        (["import", "labels.tps", "--images=pictures", "--out=f", "--names=a,b"], "expected 2 points"),
        (["import", "labels.tps", "--images=pictures", "--out=f", "--spacing=0"], "--spacing: expected MM"),
        (["import", "labels.tps", "--images=pictures", "--out=f", "--spacing=nan"], "--spacing: expected MM"),
        (["import", "labels.tps", "--images=pictures", "--out=f", "--who=eva"], "nobody is called 'eva'"),
        (["import", "labels.tps", "--images=pictures", "--out=f", "--to=coco"], "--to is for export"),
        (["export", "f", "--out=f.json"], "--to is missing"),
        (["export", "f", "--to=coco", "--out=f.csv"], "give a name that ends in .json"),
        (["export", "nowhere.csv", "--to=coco", "--out=f.json"], "no such file"),
        (
            ["export", "f", "--to=coco", "--out=f.json", "--names=a"],
            "--names is for import; export has --to, --images, --spacing",
        ),
        (
            ["export", "f", "--to=coco", "--out=f.json", "--workdir=r"],
            "--workdir is for import with --key, from-review;",
        ),
        (["export", "f", "--to=coco", "--out=f.json", "--rater=eva"], "--rater is for"),
        (["export", "f", "--to=coco", "--out=f.json", "--key=k.csv"], "--key is for import with --key; export has"),
        (["export", "f", "--to=coco", "--out=f.json", "--raters=eva"], "--raters is for raters;"),
        (["import", "labels.tps", "--images=pictures", "--out=f", "--workdir=r"], "--workdir is for import with --key"),
        (["import", "labels.tps", "--images=pictures", "--out=f", "--rater=eva"], "--rater is for import with --key"),
        (["import", "labels.tps", "--images=pictures", "--out=f", "--raters=eva"], "--raters is for raters;"),
        (
            ["import", "p.csv", "--key=k.csv", "--images=pictures", "--out=f", "--names=a"],
            "; import with --key has --key",
        ),
        (["raters", "pictures", "--out=f", "--workdir=r"], "; raters has --raters"),
        (["raters", "pictures", "--out=f", "--rater=eva"], "; raters has --raters"),
        *[
            (["from-review", "pictures", "--out=f", flag], "; from-review has --rater, --workdir")
            for flag in ("--images=pictures", "--names=a", "--spacing=1", "--from=tps", "--to=tps", "--who=eva")
        ],
    ],
)
def test_mistakes_end_with_2_and_nothing_written(place, cli, arguments, said):
    before = sorted(path.name for path in place.iterdir())
    code, out, error = cli(MODULE, *arguments)
    assert (code, out) == (2, "") and said in error.splitlines()[-1]
    assert sorted(path.name for path in place.iterdir()) == before


def test_a_reviewed_folder_becomes_a_landmark_folder(place, cli):
    from ctd_jax.review.journal import Journal

    (place / "pictures").joinpath("review").mkdir()
    image = next(path.name for path in sorted((place / "pictures").glob("*.png")))
    point = {"x": 1.5, "y": 2.0, "state": "placed", "how": "hand"}
    Journal(place / "pictures/review/anna.jsonl").append([
        {"id": "open", "kind": "open", "landmarks": ["tip"]},
        {"id": "a", "kind": "edit", "image": image, "points": {"tip": point}, "done": True},
    ])  # fmt: skip
    code, out, error = cli(MODULE, "from-review", "pictures", "--out=new")
    assert code == 0 and out.startswith("new: 1 pictures marked done, 1 points"), error
    assert (place / "new/landmarks.csv").read_text() == f"image,tip_x,tip_y\n{image},1.5,2.0\n"
    code, _, error = cli(MODULE, "from-review", "pictures", "--out=new", "--rater=eva")
    assert code == 2 and "eva has not reviewed" in error
    code, _, error = cli(MODULE, "from-review", "pictures", "--out=new")
    assert code == 2 and "new is there already" in error
