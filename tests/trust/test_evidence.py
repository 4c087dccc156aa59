"""What a run keeps of val: written, read, averaged, and never used with other weights."""

import dataclasses

import numpy as np
import pytest
import safetensors.numpy

from ctd_jax import trust
from ctd_jax.trust import Evidence, Unlike, evidence


@pytest.fixture
def one():
    rng = np.random.default_rng(0)
    images = np.array([f"{i}.png" for i in range(4)])
    offset = rng.normal(0, 0.01, size=(4, 2, 2))
    offset[0, 1] = np.nan
    unlike = Unlike.fit(rng.normal(size=(9, 3)), rng.normal(size=(4, 3)), images)
    doubts = {"peak": rng.uniform(1, 9, size=(4, 2)), "width": rng.uniform(0.01, 0.1, size=(4, 2))}
    return Evidence(images, np.array([*"aabc"]), ("a", "b"), offset, doubts, False, (unlike,))


def test_what_is_written_is_read(one, tmp_path):
    evidence.write(tmp_path, "abc", 12, {"": one})
    found, lacks = evidence.read(tmp_path, "abc", None)
    assert lacks == "" and found.landmarks == ("a", "b") and not found.mirrored
    assert found.images.tolist() == one.images.tolist() and found.subjects.tolist() == [*"aabc"]
    np.testing.assert_allclose(found.offset, one.offset, rtol=1e-3)  # half precision
    for name, values in one.doubts.items():
        np.testing.assert_allclose(found.doubts[name], values, rtol=1e-3)
    picture = np.random.default_rng(1).normal(size=(5, 3))
    np.testing.assert_allclose(found.unlike[0](picture), one.unlike[0](picture), rtol=1e-5)


def test_each_domain_has_its_own(one, tmp_path):
    other = dataclasses.replace(one, offset=one.offset + 0.1, doubts={"peak": 2 * one.doubts["peak"]}, mirrored=True)
    evidence.write(tmp_path, "abc", 12, {"mm": one, "px": other})
    first, second = (evidence.read(tmp_path, "abc", domain)[0] for domain in ("mm", "px"))
    np.testing.assert_allclose(second.offset - first.offset, 0.1 + 0 * one.offset, atol=1e-3)
    np.testing.assert_allclose(second.doubts["peak"], 2 * first.doubts["peak"], rtol=1e-3)
    assert (first.mirrored, second.mirrored) == (False, True) and [*second.doubts] == ["peak"]


def test_of_other_weights_it_is_not_used(one, tmp_path):
    evidence.write(tmp_path, "abc", 12, {"mm": one})
    found, lacks = evidence.read(tmp_path, "abd", "mm")
    assert found is None and "step 12" in lacks and "report.html" in lacks


def test_what_is_missing_is_said(one, tmp_path):
    found, lacks = evidence.read(tmp_path, "abc", None)
    assert found is None and "trust.safetensors" in lacks and "report.html" in lacks
    evidence.write(tmp_path, "abc", 12, {"mm": one})
    found, lacks = evidence.read(tmp_path, "abc", "px")
    assert found is None and "knows nothing of px" in lacks


DEEP = safetensors.numpy.save({"a": np.zeros(1)}, {"digest": "abc", "domains": "[" * 100_000})


@pytest.mark.parametrize("content", [b"", b"\x07", b"x" * 200, pytest.param(DEEP, id="nested too deep")])
def test_a_damaged_file_is_not_used(content, tmp_path):
    (tmp_path / evidence.FILE).write_bytes(content)
    found, lacks = evidence.read(tmp_path, "abc", None)
    assert found is None and "damaged" in lacks


def test_a_torn_file_is_not_used(one, tmp_path):
    evidence.write(tmp_path, "abc", 12, {"": one})
    path = tmp_path / evidence.FILE
    path.write_bytes(path.read_bytes()[:-1])
    found, lacks = evidence.read(tmp_path, "abc", None)
    assert found is None and "damaged" in lacks


def test_an_average_is_judged_by_its_own_errors(one):
    """Of three networks, 0.03 to the left, in the middle and 0.03 to the right of a place; two have a doubt alone."""
    left, right = (
        dataclasses.replace(one, offset=one.offset + [move, 0.0], doubts={"peak": one.doubts["peak"] + 300 * move})
        for move in (-0.03, 0.03)
    )
    whole = trust.calibrated([one, left, right])
    np.testing.assert_allclose(whole.offset, one.offset, atol=1e-12)
    np.testing.assert_allclose(whole.doubts["peak"], one.doubts["peak"])
    np.testing.assert_allclose(whole.doubts["networks"][1:], 0.03 * (2 / 3) ** 0.5)  # of 0.03, 0 and 0.03
    assert set(whole.doubts) == {"peak", "networks"} and len(whole.unlike) == 3
    assert trust.calibrated([one, dataclasses.replace(right, unlike=())]).unlike == ()
    assert "networks" not in trust.calibrated([one]).doubts


def test_of_other_pictures_in_val_there_is_no_average(one):
    other = dataclasses.replace(one, images=one.images[::-1])
    assert trust.calibrated([one, other]) is None
    assert trust.calibrated([one, dataclasses.replace(one, mirrored=True)]) is None
    assert trust.calibrated([one]).images is one.images


def test_the_radius_is_that_of_the_distances(one):
    many = dataclasses.replace(
        one, images=np.arange(12).astype(str), subjects=np.arange(12).astype(str), landmarks=("a",),
        offset=np.stack([3 * np.arange(1.0, 13), 4 * np.arange(1.0, 13)], axis=-1)[:, None], doubts={},
    )  # fmt: skip
    np.testing.assert_allclose(many.radius.constant(), 5 * 12)  # n = 12: the 12th smallest, of 5, 10, ... 60
