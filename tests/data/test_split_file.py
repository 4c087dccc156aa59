"""The csv file of `data.split`."""

import pytest

from ctd_jax.data import split_file
from ctd_jax.errors import UserError


@pytest.fixture
def file(tmp_path):
    return tmp_path / "split.csv"


def test_image_and_split_of_each_row(file):
    file.write_text("image,split,note\na.png,test,x\nb.png,train,y\nsub/c.png,,z\na.png,test,again\n")
    assert split_file.read(file) == {"a.png": "test", "b.png": "train", "sub/c.png": ""}


def test_a_word_that_is_taken_as_empty_is_said(file, caplog):
    file.write_text("image,split\na.png,null\nb.png,train\n")
    assert split_file.read(file) == {"a.png": "", "b.png": "train"}
    assert "1 cells are taken as empty: 'null' (1)" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,part\na.png,test\n", "split.csv: no column `split`, found image, part"),
        ("image,split\na.png,test\na.png,train\n", "row 3: a.png is 'train' here and 'test' above; keep one of them"),
        ("image,split\na.png,test/1\n", "row 2: split is 'test/1', and files are named after it"),
        ("", "split.csv: no column `image`"),
    ],
)
def test_what_is_wrong_with_one(file, text, message):
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        split_file.read(file)


def test_no_such_file(file):
    with pytest.raises(UserError, match="split.csv: no such file"):
        split_file.read(file)
