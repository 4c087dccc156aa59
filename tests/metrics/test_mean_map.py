"""The mean class map: placed by hand, its numbers, and whether a network is better."""

import numpy as np
import pytest
from class_scores import CLASSES, scores

from ctd_jax import data
from ctd_jax.metrics import mean_map

NAN = float("nan")


def dataset(maps):
    """Pictures of one domain, seen at their own 8 x 8 pixels."""
    maps, n = np.asarray(maps, np.uint8), len(maps)
    names = tuple(f"{i}.png" for i in range(n))
    return data.Dataset(
        images=names, subjects=names, spacing=np.full((n, 2), NAN), boxes=np.full((n, 4), NAN),
        original=lambda i: np.zeros((8, 8, 3), np.uint8), targets=data.ClassMaps(CLASSES, lambda i: maps[i]),
        size=8, margin=0.0, cache_mib=1, domains=("spines",), domain=np.zeros(n, np.int32),
    )  # fmt: skip


def disc(column):
    """A class map whose disc fills two columns."""
    classes = np.zeros((8, 8), np.uint8)
    classes[:, column : column + 2] = 1
    return classes


def test_the_largest_share_is_found():
    """Columns 2 and 3 have the disc in 3 of 4 pictures, 5 and 6 in one; any smaller weight adds only wrong pixels."""
    maps = [disc(2)] * 3 + [disc(5)]
    found = mean_map.of(dataset(maps), dataset(maps[:3])).argmax(axis=-1)
    np.testing.assert_array_equal(found, [disc(2)])


def test_a_class_that_moves_is_found_where_it_is_most_often():
    """The disc begins in columns 0, 2, 2, 4 and 6, so that the background has the largest share everywhere: 3/5 against
    2/5 in columns 2 and 3, 4/5 against 1/5 elsewhere. Half of it leaves 2 and 3 to the disc, an eighth all of them."""
    maps = [disc(column) for column in (0, 2, 2, 4, 6)]
    np.testing.assert_array_equal(mean_map.of(dataset(maps), dataset([disc(2)])).argmax(axis=-1), [disc(2)])
    everywhere = mean_map.of(dataset(maps), dataset([disc(0), disc(4), disc(6)])).argmax(axis=-1)
    np.testing.assert_array_equal(everywhere, np.ones((1, 8, 8)))


@pytest.mark.parametrize(
    ("dice", "beaten"),
    [
        ([0.8] * 10, True),
        ([0.5] * 10, False),
        ([0.2, 0.9] * 5, False),  # 0.05 higher, which may be chance
        ([0.9] * 9 + [NAN], True),  # one is rightly found nowhere
        ([0.6], True),  # of one subject there is no interval
        ([0.4], False),
    ],
)
def test_a_network_has_to_beat_it(dice, beaten):
    found = mean_map.summarize(scores(dice), scores([0.5] * len(dice)), CLASSES)
    assert found["beaten"] == {"spines": beaten} and found["dice_spines_disc"] == 0.5
