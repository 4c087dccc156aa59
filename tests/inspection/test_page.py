"""The page holds everything in one file; the terminal gets the first of each."""

import dataclasses
import io
import re
import shutil

import landmark_rows
import numpy as np
import pytest
import segmentation_folder
from PIL import Image
from report_files import Page

from ctd_jax import inspection
from ctd_jax.data import drawn_anatomies
from ctd_jax.inspection import findings
from ctd_jax.report import overlays


@pytest.fixture(scope="module")
def found(landmark_folder, tmp_path_factory):
    root = shutil.copytree(landmark_folder(people=8, shots=1), tmp_path_factory.mktemp("check") / "<faces>")
    landmark_rows.change(
        root, {0: {"chin_x": ""}, 1: {"nose_tip_x": "", "nose_tip_y": ""}, 7: {"subject": "person0000"}}
    )
    shutil.copy(root / "images/001.png", root / "images/006.png")
    first = landmark_rows.read(root)[0]["subject"]
    landmark_rows.change(root, {7: {"subject": first}})
    return inspection.inspect(root)


def test_findings_that_spoil_come_first(found):
    titles = [(one.title, one.number, one.spoils) for one in found.findings]
    assert titles[:3] == [
        ("Fault: half a point", 1, True),
        ("Subjects in two splits", 1, True),
        ("Near-identical pictures in two splits", 1, True),
    ]
    assert found.spoilt and [spoils for *_, spoils in titles] == sorted((s for *_, s in titles), reverse=True)


def test_the_page_is_one_file_with_every_picture(found, tmp_path):
    path = inspection.write_page(tmp_path / "page.html", found)
    source = path.read_text("utf-8")
    page = Page(source)
    assert "Data check" in page.text and "<faces>" in page.text
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", source), "something lies outside of the page"
    assert source.count('<figure id="p') == 8 and source.count("<path d=") == 8
    assert "row 2: chin has only one of its two coordinates" in page.text
    assert re.search(r"nose_tip\s*1 of 8", page.text) and re.search(r"train\s*4\s*4\s*118\s*2", page.text)


def test_a_dot_lies_where_its_point_is(found, tmp_path):
    source = inspection.write_page(tmp_path / "page.html", found).read_text("utf-8")
    thumb = re.search(r'<figure id="p3".*?viewBox="0 0 64 64".*?<path d="M([\d.]+) ([\d.]+)h0', source)
    x, y = found.folder.table.xy[3, 0]
    assert abs(float(thumb[1]) - x - 0.5) < 1e-3 and abs(float(thumb[2]) - y - 0.5) < 1e-3


def test_what_has_no_picture_is_listed_and_what_has_one_is_shown(found, tmp_path):
    items = [findings.Item("in most pictures"), findings.Item("in the fourth", (3,))]
    two = dataclasses.replace(found, findings=[findings.Finding("Two of a kind", False, "Look.", items)])
    section = inspection.write_page(tmp_path / "page.html", two).read_text("utf-8").split('<section id="f1"')[1]
    section = section.split("</section>")[0]
    assert section.count("in the fourth") == 1 and "<figcaption>in the fourth" in section
    assert section.count("in most pictures") == 1 and "<li>in most pictures" in section


def test_the_summary_has_a_line_for_each_finding(found):
    lines = inspection.summary(found).splitlines()
    assert lines[0].endswith(": 8 pictures of 7 subjects")
    assert [line.split()[0] for line in lines[4:7]] == ["spoils"] * 3 and len(lines) == 4 + len(found.findings)


def test_a_segmentation_folder_has_its_classes_and_outlines(tmp_path):
    root = segmentation_folder.write(tmp_path / "organs", people=4)
    found = inspection.inspect(root)
    source = inspection.write_page(tmp_path / "page.html", found).read_text("utf-8")
    assert source.count('<figure id="p') == len(found.folder) and "<path d=" not in source
    text = Page(source).text
    for domain, names in drawn_anatomies.CLASSES.items():
        for name in names[1:]:
            assert re.search(rf"{domain}\s*{name}\s*\d", text)
    image = Image.open(io.BytesIO(found.folder.looks[0].thumbnail)).convert("RGB")
    blue = (np.asarray(image, int) - overlays.TRUTH).__abs__().sum(-1) < 60
    assert blue.any(), "no outline in the thumbnail"


def test_spacings_are_compared_in_their_domain(tmp_path):
    root = segmentation_folder.write(tmp_path / "organs", people=10)
    rows = [[*row[:5], *(["3"] * 2 if row[0] == "spines/4.png" else ["0.3"] * 2)] for row in
            segmentation_folder.read_rows(root)]  # fmt: skip
    segmentation_folder.write_rows(root, rows)
    found = inspection.inspect(root)
    (coarse,) = [item for one in found.findings for item in one.items if item.text.startswith("coarse: 3 mm")]
    assert found.folder.table.images[coarse.rows[0]] == "spines/4.png"


def test_subjects_of_two_domains_are_two_people(tmp_path):
    root = segmentation_folder.write(tmp_path / "organs", people=4)
    rows = [
        [*row[:4], "train" if row[2] == "heads" else "test", *row[5:]] for row in segmentation_folder.read_rows(root)
    ]
    segmentation_folder.write_rows(root, rows)
    assert not any(one.title == "Subjects in two splits" for one in inspection.inspect(root).findings)
