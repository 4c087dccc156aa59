"""What is in a page that is sent by mail, and what is not."""

import base64
import csv
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from ctd_jax.errors import UserError
from ctd_jax.review import folder, page, portable, proposals

NAME = "Meier_Hans_1961"


@pytest.fixture
def reviewed(tmp_path):
    """Two pictures whose names and metadata say who is on them."""
    root = tmp_path / "Klinik_Süd"
    root.mkdir()
    exif = Image.Exif()
    exif[0x010E] = "ImageDescription Meier"
    exif[0x0112] = 6  # to be turned by 90 degrees
    values = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    Image.fromarray(values).save(root / f"{NAME}.jpg", exif=exif, comment=b"comment Meier", quality=95)
    Image.new("L", (30, 20), 90).save(root / "=Ötztal.png")
    return folder.read(root, ["tip", "</script><b>"])


def content_of(path):
    found = re.search('<script id="enclosed"[^>]*>(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    return json.loads(found[1])


def test_nobody_is_named_in_it_and_the_key_says_who_is_who(reviewed, tmp_path, capsys):
    out = tmp_path / "page.html"
    said = portable.write(reviewed, proposals.nothing, out, 45)
    text = out.read_text("utf-8")
    assert not re.search("Meier|Ötztal|Klinik|tmp", text) and "page_points.csv" in said
    content = content_of(out)
    assert content["images"][0][5:] == "-1" and re.fullmatch("[a-z]{5}", content["images"][0][:5])
    with portable.key_of(out).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert portable.key_of(out) == tmp_path / "page.key.csv"
    assert [row["picture"] for row in rows] == content["images"]
    assert {row["image"] for row in rows} == {f"{NAME}.jpg", "'=Ötztal.png"}  # no formula of a spreadsheet
    turned = next(one for one, row in zip(content["pictures"], rows, strict=True) if NAME in row["image"])
    assert (turned["width"], turned["height"]) == (60, 90)
    data = base64.b64decode(turned["data"])
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.size == (30, 45) and not picture.getexif() and "comment" not in picture.info
    assert b"Meier" not in data and b"Exif" not in data
    size = out.stat().st_size / 1e6
    assert re.search(f"{out} will have {size:.1f} MB$", capsys.readouterr().out, re.MULTILINE)  # and no warning


def test_it_may_ask_for_nothing_and_runs_no_program_but_its_own(reviewed, tmp_path):
    out = tmp_path / "page.html"
    portable.write(reviewed, proposals.nothing, out, 45)
    text = out.read_text("utf-8")
    policy = re.search('http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1].replace("&#39;", "'")
    nonce = re.search("script-src 'nonce-([^']+)'", policy)[1]
    assert "default-src 'none'" in policy and "connect-src" not in policy
    assert text.count(f'nonce="{nonce}"') == len(re.findall("<(?:style|script)", text)) == 3
    assert content_of(out)["landmarks"] == ["tip", "</script><b>"]
    assert all((page.FOLDER / name).read_text("utf-8") in text for name in page.PROGRAMS)  # no second page


def test_points_are_proposed_only_where_that_is_asked_for(reviewed, tmp_path):
    first = reviewed.images[0]
    labelled = {first: {"tip": {"x": 1.0, "y": 2.0, "state": "placed", "how": "label"}}}
    reviewed = folder.dataclasses.replace(reviewed, labels=labelled)
    portable.write(reviewed, proposals.nothing, tmp_path / "a.html", 45)
    assert content_of(tmp_path / "a.html")["proposed"] == [{}, {}]
    point = {"tip": {"x": 3.0, "y": 4.0, "state": "placed", "how": "predicted"}}
    portable.write(reviewed, lambda image: point if image == first else {}, tmp_path / "b.html", 45)
    assert content_of(tmp_path / "b.html")["proposed"] == [point, {}]


def test_what_a_rater_may_have_is_not_replaced(reviewed, tmp_path):
    portable.write(reviewed, proposals.nothing, tmp_path / "a.html", 45)
    key = portable.key_of(tmp_path / "a.html").read_bytes()
    with pytest.raises(UserError, match="a.html is there already"):
        portable.write(reviewed, proposals.nothing, tmp_path / "a.html", 45)
    (tmp_path / "a.html").unlink()
    with pytest.raises(UserError, match="a.key.csv is there already"):
        portable.write(reviewed, proposals.nothing, tmp_path / "a.html", 45)
    assert portable.key_of(tmp_path / "a.html").read_bytes() == key
    with pytest.raises(UserError, match="ends in .csv"):
        portable.write(reviewed, proposals.nothing, tmp_path / "a.csv", 45)


def test_what_is_much_is_said_and_what_is_too_much_is_refused(reviewed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(portable, "LARGE", 0.001)
    portable.write(reviewed, proposals.nothing, tmp_path / "a.html", 45)
    assert "which is much for a mail" in capsys.readouterr().out
    monkeypatch.setattr(portable, "MOST", 0.001)
    with pytest.raises(UserError, match="smaller --portable_side than 45, or fewer pictures"):
        portable.write(reviewed, proposals.nothing, tmp_path / "b.html", 45)
    assert not list(tmp_path.glob("b*"))
