"""How label files name pictures and points."""

import unicodedata

import label_tables
import pytest

from ctd_jax.data.faults import Fault
from ctd_jax.errors import UserError
from ctd_jax.labels.context import Context, Pictures


@pytest.fixture
def pictures(tmp_path):
    return Pictures(label_tables.draw(tmp_path / "pictures"))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a.png", "a.png"),
        ("./a.png", "a.png"),
        ("sub/b.png", "sub/b.png"),
        ("sub\\b.png", "sub/b.png"),
        ("b.png", "sub/b.png"),
        ("B.PNG", "sub/b.png"),
        ("/home/eva/teeth/b.png", "sub/b.png"),
        ("C:\\Users\\eva\\b.png", "sub/b.png"),
    ],
)
def test_a_picture_is_found_by_its_path_or_by_its_name(name, file, pictures):
    assert pictures.find(name, "labels.tps") == file


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "the picture has no name"),
        ("../pictures/a.png", "leads out of its folder"),
        ("sub\\..\\..\\a.png", "leads out of its folder"),
        ("https://x.org/q.png", "is a URL"),
        ("/home/eva/c.png", "picture c.png does not exist in"),
        ("c.png", "does not exist in .*; the nearest there is"),
    ],
)
def test_a_picture_that_is_not_found(name, said, pictures):
    with pytest.raises(Fault, match=f"labels.tps: .*{said}"):
        pictures.find(name, "labels.tps")


def test_a_name_of_two_pictures_is_refused(pictures):
    (pictures.root / "other").mkdir()
    (pictures.root / "sub" / "b.png").rename(pictures.root / "other" / "x.png")
    label_tables.draw(pictures.root)
    (pictures.root / "other" / "x.png").rename(pictures.root / "other" / "b.png")
    with pytest.raises(Fault, match=r"picture b\.png may be other/b\.png, sub/b\.png; move the others"):
        pictures.find("b.png", "labels.tps")
    assert pictures.find("sub/b.png", "labels.tps") == "sub/b.png"
    with pytest.raises(Fault, match="expected one picture b.* found 2: other/b.png, sub/b.png"):
        pictures.of_stem("b", "b.pts")


def test_pictures_of_another_place_are_said_once(pictures, caplog):
    pictures.find("/home/eva/a.png", "labels.tps")
    for name in ("sub/b.png", "C:\\eva\\sub\\b.png", "/home/pictures/a.png"):  # more than the last part fits
        pictures.find(name, "labels.tps")
    pictures.say()
    assert "1 pictures are found by the last part of their path alone; first, /home/eva/a.png is" in caplog.text


def test_a_picture_that_cannot_be_read(pictures):
    (pictures.root / "a.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"a\.png"):
        pictures.size("a.png")


def test_names_of_points_by_their_order(pictures):
    assert Context(pictures).names_of(2, "a.pts") == ("1", "2")
    assert Context(pictures, ("tip", "base")).names_of(2, "a.pts") == ("tip", "base")
    with pytest.raises(UserError, match="a.pts: expected 2 points, as --names has names, found 3"):
        Context(pictures, ("tip", "base")).names_of(3, "a.pts")


def test_names_of_points_in_an_order_of_their_own(pictures):
    assert Context(pictures).ordered(["b", "a", "b"], "x.json") == ("b", "a")
    assert Context(pictures, ("a", "b")).ordered(["b"], "x.json") == ("a", "b")
    with pytest.raises(UserError, match="x.json: a point is called 'c'; expected one of --names, a, b"):
        Context(pictures, ("a", "b")).ordered(["c"], "x.json")


def test_the_longest_end_of_a_path_is_the_picture(pictures):
    """Of two pictures of one name, as `predict PICTURES` writes their paths."""
    label_tables.draw(pictures.root / "other")
    for name in ("sub/b.png", "other/sub/b.png", "other/a.png", "a.png"):
        assert pictures.find(f"pictures/{name}", "p.csv") == name
        assert pictures.find(f"C:\\Users\\eva\\Pictures\\{name}".replace("/", "\\"), "p.csv") == name
    assert pictures.find("/home/eva/other/SUB/b.png", "p.csv") == "other/sub/b.png"
    for name in ("b/a.png", "/home/eva/b/a.png", "C:\\a.png", "/a.png"):
        with pytest.raises(Fault, match=r"a\.png may be a\.png, other/a\.png; move the others"):
            pictures.find(name, "p.csv")
    (pictures.root / "other/a.png").unlink()
    assert Pictures(pictures.root).find("b/a.png", "p.csv") == "a.png"


def test_a_label_file_is_of_the_picture_of_its_path(pictures, caplog):
    """Of two people who both have a picture b."""
    label_tables.draw(pictures.root / "other")
    for stem in ("./a", "./sub/b", "./other/a", "./other/SUB/b", "other\\a"):
        file = f"{stem.removeprefix('./').lower()}.png"
        assert pictures.of_stem(stem, "labels") == file.replace("\\", "/")
    pictures.say()
    assert not caplog.messages
    assert pictures.of_stem("eva/pictures/a", "labels") == "a.png"
    for stem in ("a", "b", "./b", "third/b"):
        with pytest.raises(Fault, match=f"expected one picture {stem.removeprefix('./')}.* found 2: "):
            pictures.of_stem(stem, "labels")
    with pytest.raises(Fault, match="labels/other/a.pts: picture a may be a.png or one of other/a"):
        pictures.of_stem("./a", "labels/other/a.pts")  # `other` alone was given
    assert pictures.of_stem("./a", "labels/third/a.pts") == "a.png"
    (pictures.root / "sub/b.png").unlink()
    moved = Pictures(pictures.root)
    assert moved.of_stem("./sub/b", "sub/b.pts") == "other/sub/b.png"
    moved.say()
    assert "by the last part of their path alone; first, sub/b is" in caplog.text


def test_an_umlaut_is_the_same_however_it_is_put_together(pictures):
    (pictures.root / "sub/b.png").rename(pictures.root / unicodedata.normalize("NFD", "Mädchen.png"))
    assert pictures.of_stem("Mädchen", "a.pts") == unicodedata.normalize("NFD", "Mädchen.png")
