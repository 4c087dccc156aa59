"""Every format: what is written is read again, and says what it can't hold."""

import json
import math
import pathlib

import label_tables
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctd_jax.data.picture_files import PictureFiles
from ctd_jax.errors import UserError
from ctd_jax.labels import FORMATS, LOSSES, by_name, reading
from ctd_jax.labels.context import Pictures
from ctd_jax.labels.table import Labelled, Labels, Point

PRECISION = {"imagej": 1e-4, "dlib": 0.5}  # pixels: numbers of 32 bits, whole numbers; others 1e-6
WHOLE = ("pts", "imagej", "imagej_results", "morphoj")  # know points by their order: none can be absent


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return label_tables.draw(tmp_path_factory.mktemp("pictures"))


@st.composite
def tables(draw, whole: bool):
    """Labels of the two pictures, points within them, some hidden and, unless `whole`, some absent."""
    named = []
    for image, (width, height) in label_tables.SIZES.items():
        points = {}
        for name in label_tables.NAMES:
            if whole or (image, name) == ("a.png", "tip") or draw(st.integers(0, 3)):
                x, y = draw(st.floats(0, width - 1)), draw(st.floats(0, height - 1))
                points[name] = Point(x, y, draw(st.booleans()), draw(st.sampled_from([0.25, math.nan])))
        subject = draw(st.sampled_from(["anna", "ben 2"]))
        named.append(Labelled(image, points, (width, height), subject, (0.5, 0.5), "me"))
    return Labels(label_tables.NAMES, tuple(named))


@pytest.mark.parametrize("name", label_tables.HERE)
def test_what_is_written_is_read_again(name, pictures, tmp_path_factory):
    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(tables(name in WHOLE))
    def check(labels):
        root = tmp_path_factory.mktemp("labels")
        found = by_name.read(label_tables.put(root, labels, name), name, label_tables.context(pictures))
        assert found.names == labels.names
        by_image = {picture.image: picture for picture in found.pictures}
        lost = FORMATS[name].loses
        for picture in labels.pictures:
            if not picture.points and picture.image not in by_image:
                continue  # a table of points has no row of such a picture
            again = by_image[picture.image]
            assert set(again.points) == set(picture.points)
            for key, point in picture.points.items():
                there = again.points[key]
                assert (there.x, there.y) == pytest.approx((point.x, point.y), abs=PRECISION.get(name, 1e-6))
                if "hidden" not in lost:
                    assert there.hidden == point.hidden
                if "confidence" not in lost:
                    assert there.confidence == pytest.approx(point.confidence, nan_ok=True)
            if "subject" not in lost:
                assert again.subject == picture.subject
            assert again.spacing == (0.5, 0.5)
            assert again.size in (None, picture.size)

    check()


@pytest.mark.parametrize("name", label_tables.HERE)
def test_a_format_is_recognised_by_its_file(name, tmp_path):
    assert by_name.guess(label_tables.put(tmp_path, label_tables.labels(), name)) == name


def test_what_is_no_format_is_not_guessed(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text("{}")
    with pytest.raises(UserError, match=r"labels\.json: is in no format that is known here; say which, --from=FORMAT"):
        by_name.guess(path)
    both = tmp_path / "both"
    both.mkdir()
    (both / "a.tps").write_text("LM=0")
    (both / "a.pts").write_text("")
    with pytest.raises(UserError, match="may be pts or tps; say which"):
        by_name.guess(both)


def test_a_mistyped_format_gets_the_nearest():
    with pytest.raises(UserError, match="--from: there is no format 'labelmee'; the nearest is labelme"):
        by_name.check_name("--from", "labelmee")


def test_losses_are_known_kinds():
    assert {kind for one in FORMATS.values() for kind in one.loses} <= set(LOSSES)


def test_a_file_that_is_not_there(pictures):
    with pytest.raises(UserError, match="no such file or folder"):
        by_name.read(pathlib.Path("nowhere.tps"), "tps", label_tables.context(pictures))


def test_a_file_of_very_many_pictures_is_recognised_by_its_beginning(tmp_path):
    images = [{"id": i, "file_name": f"{i:06d}.png", "width": 640, "height": 480} for i in range(15000)]
    content = {"images": images, "annotations": [], "categories": []}
    (tmp_path / "labels.json").write_text(json.dumps(content))
    assert (tmp_path / "labels.json").stat().st_size > by_name.SNIFFED
    assert by_name.guess(tmp_path / "labels.json") == "coco"


def test_linked_folders_are_read_too(tmp_path):
    """Labels and pictures in them; a picture spelt otherwise is found there, too."""
    given = label_tables.labels()
    for place in ("here", "elsewhere"):
        (tmp_path / place).mkdir()
    for name, content in by_name.write(given, "labelme").items():
        (tmp_path / "elsewhere" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "elsewhere" / name).write_bytes(content)
    (tmp_path / "elsewhere" / "a.png").write_bytes(b"")
    (tmp_path / "here" / "v2").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "around").symlink_to(tmp_path / "here")
    (tmp_path / "here" / "nowhere.json").symlink_to(tmp_path / "gone")
    assert by_name.guess(tmp_path / "here") == "labelme"
    found = reading.files_of(tmp_path / "here", [".json"])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["here/v2/a.json", "here/v2/sub/b.json"]
    assert Pictures(tmp_path / "here").of_stem("a", "") == "v2/a.png"
    assert PictureFiles(tmp_path / "here").find("v2/A.PNG", "") == "v2/a.png"
