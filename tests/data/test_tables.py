"""Tables as people bring them: what is read and said, what is refused, and that all faults come at once."""

import csv
import json

import numpy as np
import pytest
import segmentation_folder
from PIL import Image

from configs import default, mtmd
from ctd_jax import data
from ctd_jax.data import tables
from ctd_jax.data.faults import Faults
from ctd_jax.data.points import read_folder
from ctd_jax.errors import UserError

HEADER = ["image", "subject", "split", "left_x", "left_y", "tip_x", "tip_y"]
ROWS = [
    ["a.png", "ann", "train", "10", "12.5", "20", "25"],
    ["b.png", "bob", "train", "11", "12", "21", "22"],
    ["c.png", "cat", "val", "9", "11", "19", "24"],
    ["d.png", "dan", "test", "9.5", "11", "19", "24"],
]


@pytest.fixture
def root(tmp_path):
    """Four pictures of 40 x 30 pixels and two landmarks."""
    root = tmp_path / "field"
    root.mkdir()
    write(root)
    (root / "dataset.json").write_text('{"name": "field", "landmarks": ["left", "tip"]}', encoding="utf-8")
    for row in ROWS:
        Image.new("L", (40, 30)).save(root / row[0])
    return root


def write(root, header=HEADER, rows=ROWS, *, encoding="utf-8", delimiter=",", extra=None):
    """`extra`: a column more, its name and its cell of every row."""
    header, rows = list(header), [list(row) for row in rows]
    if extra:
        header, rows = [*header, extra[0]], [[*row, extra[1]] for row in rows]
    with (root / "landmarks.csv").open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])


def changed(*cells):
    """ROWS with (number of the row in the file, column, text) changed."""
    rows = [list(row) for row in ROWS]
    for number, column, text in cells:
        rows[number - 2][HEADER.index(column)] = text
    return rows


def load(root, *, roots=None, **changes):
    """The folder, or `roots` in its place."""
    config = default.get_config().data
    config.update({"root": roots or str(root), "image_size": 32, "budget": 0} | changes)
    return data.load(config, root.parent / "cache")


def refused(root, **changes):
    with pytest.raises(UserError) as caught:
        load(root, **changes)
    return str(caught.value)


# What is read


@pytest.mark.parametrize(
    ("encoding", "delimiter"),
    [("utf-16", ","), ("utf-16", "\t"), ("utf-8-sig", ";"), ("latin-1", ";"), ("utf-8", "\t")],
)
def test_encodings_and_separators(root, encoding, delimiter, caplog):
    rows = changed((2, "subject", "Jürgen"))
    write(root, rows=rows, encoding=encoding, delimiter=delimiter)
    table = read_folder(root)
    assert table.subjects == ("Jürgen", "bob", "cat", "dan")
    np.testing.assert_array_equal(table.xy[0], [[10, 12.5], [20, 25]])
    assert ("is separated by" in caplog.text) == (delimiter != ",")
    assert ("is not UTF-8 and read as Latin-1 (Windows-1252): row 2 has" in caplog.text) == (encoding == "latin-1")


def test_decimal_commas_need_another_separator(root, caplog):
    rows = changed((2, "left_x", "10,25"), (2, "left_y", "12,5"), (5, "left_x", "9"))
    write(root, rows=rows, delimiter=";")
    np.testing.assert_array_equal(read_folder(root).xy[0, 0], [10.25, 12.5])
    assert "row 2: '10,25'" in caplog.text
    write(root, rows=rows)
    assert "left_x is '10,25'; expected a number (with a decimal point)" in refused(root)


def test_decimal_commas_and_points_do_not_mix(root):
    write(root, rows=changed((3, "left_x", "1,234")), delimiter=";")
    message = refused(root)
    assert "row 3: '1,234' has a decimal comma, but" in message and "row 2: '12.5' a point" in message


@pytest.mark.parametrize("word", ["NaN", "nan", "NA", "N/A", "null", "None", "-", "#N/A"])
def test_words_for_missing_values(root, word, caplog):
    write(root, rows=changed((3, "tip_x", word), (3, "tip_y", word), (4, "subject", "NA")))
    table = read_folder(root)
    assert np.isnan(table.xy[1, 1]).all() and np.isnan(table.xy).sum() == 2
    assert table.subjects == ("ann", "bob", "NA", "dan")  # initials
    assert f"2 cells are taken as empty: {word!r} (2)" in caplog.text


@pytest.mark.parametrize("column", ["subject", "rater"])
def test_people_called_na_are_named(root, column, caplog):
    """R writes NA where nothing is known; once, it is somebody's initials."""
    header = [*HEADER, "rater"]
    for number in (1, 3):
        rows = [[*row, "eva"] for row in ROWS]
        for row in rows[:number]:
            row[header.index(column)] = "NA"
        write(root, header=header, rows=rows)
        caplog.clear()
        table = read_folder(root)
        assert "NA" in (table.subjects if column == "subject" else table.landmarks.raters)
        said = [message.partition("landmarks.csv: ")[2] for message in caplog.messages if "NA" in message]
        assert said == [
            f"`{column}` is NA in 3 rows, which is read as the name of one person; if it means that nothing is known, "
            "write who it is, or empty these cells"
        ] * (number == 3)


@pytest.mark.parametrize("column", ["set", "Set", "partition", "fold", "subset", "SPLIT", " Split "])
def test_other_names_of_the_split(root, column, caplog):
    write(root, header=[*HEADER[:2], column, *HEADER[3:]])
    assert load(root).split_of == ["train", "train", "val", "test"]
    assert f"read `{column.strip()}` as `split`" in caplog.text


def test_other_names_of_the_subject(root, caplog):
    write(root, header=["Image", "Patient_ID", *HEADER[2:]])
    assert read_folder(root).subjects == ("ann", "bob", "cat", "dan")
    assert "read `Image` as `image`, `Patient_ID` as `subject`" in caplog.text


WORDS = {
    "train": ("Train", "TRAINING", "trn", "training set"),
    "val": ("Val", "validation", "Valid", "dev", "Dev-Set"),
    "test": ("Test", "testing", "test set", "tstset"),
    "test1": ("Test1",),
}


@pytest.mark.parametrize(("split", "word"), [(split, word) for split, words in WORDS.items() for word in words])
def test_words_of_the_splits(root, split, word, caplog):
    write(root, rows=changed((3, "split", word)))
    assert load(root).split_of == ["train", split, "val", "test"]
    assert f"words of the split are read: {word!r} as {split} (1)" in caplog.text


def test_a_split_file_in_other_words(root, tmp_path):
    text = 'image;Set\nA.png;Training\n"./b.png";train\nc.png;Validation\nd.png;test2\n'
    (tmp_path / "split.csv").write_text(text, encoding="utf-8")
    assert load(root, split=str(tmp_path / "split.csv")).split_of == ["train", "train", "val", "test2"]


def test_a_split_file_of_several_domains(root, tmp_path, landmark_folder):
    other = landmark_folder(people=4, name="other")
    rows = [f"field\\{name}.png,{split}" for name, split in zip("abcd", ("Train", "train", "val", "test"), strict=True)]
    rows += [f"other/images/00{i}.png,{split}" for i, split in enumerate(("train", "train", "val", "test"))]
    (tmp_path / "split.csv").write_text("\n".join(["image,split", *rows]), encoding="utf-8")
    pictures = load(root, roots=f"{root},{other}", split=str(tmp_path / "split.csv"))
    assert pictures.parts["field"].split_of == ["train", "train", "val", "test"]
    assert pictures.parts["other"].split_of[:5] == ["train", "train", "val", "test", "unused"]


def test_columns_that_mean_nothing(root, caplog):
    write(root, header=[*HEADER, "note", "spacing_mm_x"], rows=[[*row, "x", "1"] for row in ROWS])
    read_folder(root)
    said = [r.message for r in caplog.records if "mean nothing" in r.message]
    assert len(said) == 1 and said[0].endswith("here: note, spacing_mm_x (is it `spacing_x_mm`?)")


def test_a_column_of_row_numbers(root, caplog):
    """As pandas writes one."""
    write(root, header=["", *HEADER], rows=[[str(i), *row] for i, row in enumerate(ROWS)])
    assert read_folder(root).images == ("a.png", "b.png", "c.png", "d.png")
    assert "columns that mean nothing here: one without a name" in caplog.text


def test_pictures_by_another_spelling(root, caplog):
    (root / "d.png").rename(root / "Jürgen.PNG")
    write(root, rows=changed((5, "image", "./Ju\u0308rgen.png"), (2, "image", "A.png")))
    assert read_folder(root).images == ("a.png", "b.png", "c.png", "Jürgen.PNG")
    assert (
        "2 names are spelt otherwise than their files, which exactly one file fits each; first 'A.png' is 'a.png'"
        in (caplog.text)
    )


def test_pairs_of_left_and_right(root, caplog):
    names = ["left_eye", "right_eye", "L1", "R1", "ear_left", "ear_right", "left_over"]
    write(root, header=["image", *(f"{name}_{axis}" for name in names for axis in "xy")], rows=[["a.png", *"1" * 14]])
    content = {"landmarks": names, "flip_pairs": [["L1", "R1"]]}
    (root / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    read_folder(root)
    assert "flip_pairs does not have [left_eye, right_eye], [ear_left, ear_right]; add the pairs" in caplog.text
    caplog.clear()
    (root / "dataset.json").write_text(json.dumps(content | {"flip_pairs": None}), encoding="utf-8")
    read_folder(root)
    assert "flip_pairs" not in caplog.text


def test_landmarks_that_differ_in_capitals_only(root):
    """Neither column is taken for the other's."""
    write(root, header=["image", "a_x", "a_y", "A_x", "A_y", "M\u00fc_X", "M\u00fc_Y"], rows=[["a.png", *"123456"]])
    (root / "dataset.json").write_text(json.dumps({"landmarks": ["A", "a", "Mu\u0308"]}), encoding="utf-8")
    np.testing.assert_array_equal(read_folder(root).xy[0], [[3, 4], [1, 2], [5, 6]])
    write(root, header=["image", "a_x", "a_y", "M\u00fc_X", "M\u00fc_Y"], rows=[["a.png", *"1234"]])
    assert "2 x missing column" in refused(root) and "no column `A_x`" in refused(root)


# What is refused


def test_a_fold_is_no_split(root):
    write(root, header=[*HEADER[:2], "fold", *HEADER[3:]], rows=[[*row[:2], "3", *row[3:]] for row in ROWS])
    assert "column `fold` may be the split, but has 3; expected a column `split`" in refused(root)


@pytest.mark.parametrize(("typo", "column"), [("spilt", "split"), ("splits", "split"), ("subjct", "subject")])
def test_a_mistyped_split_or_subject(root, typo, column):
    write(root, header=[typo if name == column else name for name in HEADER])
    assert f"column `{typo}` means nothing here; is it `{column}`?" in refused(root)


@pytest.mark.parametrize("name", ["test/a", "test:1", "test" + 60 * "x", "Test\\..\\a"])
def test_splits_that_become_no_file_names(root, name):
    write(root, rows=changed((5, "split", name)))
    assert f"landmarks.csv, row 5: split is {name[:60]!r}, and files are named after it" in refused(root)
    (root.parent / "s.csv").write_text(f'image,split\na.png,train\n"d.png","{name}"\n', encoding="utf-8")
    write(root)
    assert "s.csv, row 3: split is" in refused(root, split=str(root.parent / "s.csv"))


@pytest.mark.parametrize("name", ["x" * 101, "", "a\nb"])
def test_landmarks_that_are_no_names(root, name):
    write(root, header=[*HEADER[:5], f"{name}_x", f"{name}_y"])
    (root / "dataset.json").write_text(json.dumps({"landmarks": ["left", name]}), encoding="utf-8")
    assert "is no name of a landmark; expected 1 to 100 characters" in refused(root)


def test_a_folder_named_by_300_characters(root):
    assert "no such folder" in refused(root, roots="x" * 300)
    assert "no such file" in refused(root, split="x" * 300)


def test_a_picture_named_by_300_characters(root):
    write(root, rows=changed((5, "image", 300 * "x" + ".png")))
    assert "row 5: picture xxx" in refused(root) and "does not exist" in refused(root)


@pytest.mark.parametrize("name", ["._a.png", ".ipynb_checkpoints/a.png"])
def test_files_that_programs_leave_behind(root, name):
    (root / name).parent.mkdir(exist_ok=True)
    Image.new("L", (40, 30)).save(root / name)
    write(root, rows=changed((5, "image", name)))
    assert f"row 5: {name} is a file that macOS or Jupyter leaves behind" in refused(root)


def test_a_url(root):
    write(root, rows=changed((5, "image", "https://example.org/a.png")))
    assert "row 5: picture https://example.org/a.png is a URL; download it first" in refused(root)
    with pytest.raises(UserError, match="data.root is https://example.org/set, a URL; download it first"):
        load(root, roots="https://example.org/set")


def test_a_name_that_two_files_fit(root):
    Image.new("L", (40, 30)).save(root / "D.png")
    write(root, rows=changed((5, "image", ".\\d.PNG")))
    assert "row 5: picture .\\d.PNG may be D.png or d.png; write one of them" in refused(root)


def test_training_pictures_without_annotations(root):
    write(root, rows=changed(*((row, column, "") for row in (2, 3) for column in HEADER[3:])))
    assert "none of those whose split is `train` has an annotation" in refused(root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"image,subject\na.png,J\x81rgen\n", "row 2: neither UTF-8 nor certainly Latin-1"),  # code page 850
        ("image,subject\na.png,ann\n".encode("utf-16-le"), "not a text file .*zero byte"),
        (b'image,split\na.png,"train\n' + b"b.png,train\n" * 20_000, "is a quotation mark not closed"),
        (b"sep=;\nimage;split\na.png;train\n", "found sep=;; the first line is for Excel alone: take it out"),
        (b"image," + b"x" * tables.MAX_HEADER, "the first line has .* characters or more"),
        (b"image," + b",".join(b"x%d" % i for i in range(50_000)) + b"\n", "50001 columns; at most 10000 are read"),
        (b"image,note\na.png," + b"x" * 20_000 + b"\n", "row 2: a cell of 20000 characters; at most 10000 fit"),
    ],
)
def test_what_is_no_table_is_refused(root, content, message):
    (root / "landmarks.csv").write_bytes(content)
    with pytest.raises(UserError, match=message):
        sheet, faults = tables.read(root / "landmarks.csv"), Faults("")
        list(sheet.rows(faults))
        faults.raise_if_any()


def test_a_file_of_another_size(root, monkeypatch):
    monkeypatch.setattr(tables, "MAX_MIB", 0)
    with pytest.raises(UserError, match="0 MiB; files of 0 MiB or less are read"):
        tables.read(root / "landmarks.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "too deep in each other"),
        ('{"a": ' * 100_000, "too deep in each other"),
        ('{"landmarks": ' + "1" * 5000 + "}", "not JSON"),
        ('{"landmarks": ["left", "tip"], "success_radii_mm": [Infinity]}', "Infinity is no number of JSON"),
        ('{"landmarks": ["left", "tip"], "landmarks": []}', "the key 'landmarks' stands twice"),
    ],
)
def test_json_that_cannot_be_read(root, text, message):
    (root / "dataset.json").write_text(text, encoding="utf-8")
    assert message in refused(root) and "dataset.json" in refused(root)


def test_all_faults_of_a_folder_at_once(root):
    """Rows, header, dataset.json and the inside of pictures, each kind once, with its number."""
    content = {"landmarks": ["left", "tip"], "flip_pairs": [["left", "tpi"]], "normalizer": ["left", "left"]}
    (root / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    (root / "b.png").write_text("no picture", encoding="utf-8")
    rows = changed((2, "left_x", "ten"), (2, "left_y", "11x"), (5, "tip_x", "99"), (4, "tip_y", ""))
    rows += [["a.png", *ROWS[0][1:]], ["e.png", *ROWS[0][1:]], ["short"], ["f.png", *ROWS[0][1:]]]
    write(root, rows=rows)
    lines = refused(root).splitlines()
    assert lines[0] == f"{root}: 11 faults; the first of each kind:"
    kinds = [line.partition(": ")[0] for line in lines[1:]]
    assert kinds == [
        "- 2 x dataset.json",
        "- 2 x not a number",
        "- 1 x half a point",
        "- 1 x picture listed twice",
        "- 2 x missing picture",
        "- 1 x row of another length",
        "- 1 x unreadable picture",
        "- 1 x landmark outside its picture",
    ]
    assert "row 2: left_x is 'ten'" in lines[2] and "row 7: picture e.png does not exist" in lines[5]
    assert "row 3, " in lines[7] and "row 5, d.png: tip lies at (99.0, 24.0)" in lines[8]
    assert not (root.parent / "cache").exists()


def test_all_faults_of_pictures_at_once(root):
    (root / "a.png").write_text("no picture", encoding="utf-8")
    (root / "c.png").write_text("none either", encoding="utf-8")
    write(root, rows=changed((5, "tip_x", "99")))
    lines = refused(root).splitlines()
    assert lines[0] == f"{root}: 3 faults; the first of each kind:"
    assert lines[1].startswith("- 2 x unreadable picture: ") and "row 2, " in lines[1]
    assert lines[2].startswith("- 1 x landmark outside its picture: ")
    assert not list((root.parent / "cache").rglob("*.array_record*"))


def test_all_faults_of_a_segmentation_folder_at_once(tmp_path):
    root = segmentation_folder.write(tmp_path / "anatomies")
    rows = segmentation_folder.read_rows(root)
    rows[0][2], rows[1][5] = "hands", "no"
    rows[3][0] = "heads/none.png"
    segmentation_folder.write_rows(root, rows)
    segmentation_folder.change(root / "spines/2_mask.png", lambda classes: 0 * classes)
    config = mtmd.get_config().data
    config.update({"root": str(root), "image_size": 32, "budget": 0})
    with pytest.raises(UserError) as caught:
        data.load(config, tmp_path, targets=data.CLASS_MAPS)
    kinds = [line.partition(": ")[0] for line in str(caught.value).splitlines()[1:]]
    assert kinds == ["- 1 x unknown domain", "- 1 x not a number", "- 1 x missing picture", "- 1 x empty class map"]


def test_the_faults_of_several_domains_at_once(root, landmark_folder):
    other = landmark_folder(people=4, name="other")
    (other / "landmarks.csv").unlink()
    write(root, rows=changed((2, "left_x", "ten")))
    message = refused(root, roots=f"{root},{other}")
    assert (
        message.startswith("data.root: 2 faults")
        and "row 2: left_x" in message
        and "other/landmarks.csv: no" in message
    )


@pytest.mark.parametrize("name", ["tfds", "checkpoints", "x" * 70])
def test_domains_that_become_no_folders(root, tmp_path, name):
    (tmp_path / name).symlink_to(root)
    assert f"can't be a domain: its results would lie in a folder named {name!r}" in refused(
        root, roots=f"{root},{tmp_path / name}"
    )
    assert load(root, roots=str(tmp_path / name)).split_of == ["train", "train", "val", "test"]  # no domain


# Pictures without annotations


def test_of_a_helping_domain_too(root, tmp_path, landmark_folder):
    other = landmark_folder(people=4, name="other")
    write(root, rows=changed(*((2, column, "") for column in HEADER[3:]), (4, "split", "train")))
    pictures = load(root, roots=f"{root},{other}", helping=("field",), helped=True)
    assert pictures.parts["field"].split_of == ["unlabelled", "train", "train", "train"]
    write(root, rows=changed(*((2, column, "") for column in HEADER[3:]), (5, "split", "train")))
    pictures = load(root, roots=f"{root},{other}")
    assert pictures.parts["field"].split_of.count("unlabelled") == 1
    assert not np.isnan(pictures.split("train").targets.xy).all((1, 2)).any()


def test_of_people_are_as_good_as_any(root, caplog):
    write(root, rows=changed(*((row, column, "") for row in (2, 3, 4) for column in HEADER[3:])))
    config = default.get_config().data
    config.update({"root": str(root), "image_size": 32, "budget": 0})
    assert data.load(config, root.parent / "cache", targets=data.IDENTITIES).split_of == [
        "train",
        "train",
        "val",
        "test",
    ]
    assert "annot" not in caplog.text


def test_drawn_splits_are_of_annotated_pictures(tmp_path):
    from ctd_jax.data import splits

    images = [f"{i}.png" for i in range(40)]
    annotated = [i % 4 == 0 for i in range(40)]
    given = splits.assign(images, images, given=None, seed=0, budget=3, annotated=annotated)
    counts = {split: given.count(split) for split in set(given)}
    assert counts == {"unlabelled": 30, "test": 2, "val": 1, "train": 3, "unused": 4}
    assert all(split == "unlabelled" for split, known in zip(given, annotated, strict=True) if not known)
