"""The command `labels`; what it does is tested in `labels`."""

import json

import label_tables
import pytest

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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["labels.tps", "--out=f"], "expected import or export, and one file or folder"),
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
        (["export", "f", "--to=coco", "--out=f.json", "--names=a"], "are for import"),
    ],
)
def test_mistakes_end_with_2_and_nothing_written(place, cli, arguments, said):
    before = sorted(path.name for path in place.iterdir())
    code, out, error = cli(MODULE, *arguments)
    assert (code, out) == (2, "") and said in error.splitlines()[-1]
    assert sorted(path.name for path in place.iterdir()) == before
