"""Near-identical pictures on the page, side by side."""

import json

import numpy as np
import pytest
from report_files import make_run, written

from ctd_jax.report import pairs

TWINS = "image_a,split_a,subject_a,image_b,split_b,subject_b,correlation\n"


@pytest.mark.slow
def test_twins_are_shown_side_by_side(tmp_path):
    """Those between training and evaluation first; one with a picture that is not in the split is left out."""
    make_run(tmp_path)
    rows = ["t0.png,train,t0,t1.png,train,t0,1.0", "t2.png,train,t1,images/3.png,test,s1,0.9912"]
    (tmp_path / "twins.csv").write_text(TWINS + "\n".join([*rows, "x.png,train,t0,images/3.png,test,s1,0.99"]))
    shown = written(tmp_path)
    assert "1 of the 12 evaluated pictures is nearly identical with pictures of the training" in shown.text
    assert "2 pairs of pictures look like the same one" in shown.text
    assert "none of them seen in training" not in shown.text
    assert shown.text.index("train and test, correlation 0.9912 t2.png, images/3.png") < shown.text.index(
        "t0.png, t1.png"
    )
    assert len(shown.addresses) == 3 + 9 + 4
    (tmp_path / "twins.csv").write_text(TWINS + rows[0])
    text = "1 pair of pictures is nearly identical, none of them between training and evaluation"
    assert text in written(tmp_path).text


@pytest.mark.slow
def test_twins_of_a_domain_that_is_helped_have_its_own_names(tmp_path):
    make_run(tmp_path)
    (tmp_path / "twins.csv").write_text(TWINS + "few/t2.png,train,t1,few/images/3.png,test,s1,0.99")
    assert "1 of the 12 evaluated pictures is nearly identical" in written(tmp_path).text


def test_a_picture_of_a_helping_domain_is_not_taken_for_an_evaluated_one_of_the_same_name(tmp_path):
    rows = "helper/1.png,train,a,own/2.png,test,b,0.99\nown/1.png,train,a,own/2.png,test,b,0.98\n"
    (tmp_path / "twins.csv").write_text(TWINS + rows)
    (tmp_path / "config.json").write_text(json.dumps({"data": {"helping": ["helper"]}}))
    picture = np.zeros((8, 8, 3), np.uint8)
    found = pairs.read(tmp_path, {"1.png", "2.png"}, {"2.png"}, lambda _: picture)
    assert [(row["image_a"], row["correlation"]) for row, *_ in found.shown] == [("1.png", "0.98")]
