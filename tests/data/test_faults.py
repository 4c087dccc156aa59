"""All faults in one message."""

import pytest

from ctd_jax.data.faults import Fault, Faults
from ctd_jax.errors import UserError


def test_none_raises_nothing():
    Faults("a.csv").raise_if_any()


def test_one_is_said_as_it_is():
    faults = Faults("a.csv")
    faults.add("half a point", "a.csv, row 3: nose has one coordinate")
    with pytest.raises(UserError) as caught:
        faults.raise_if_any()
    assert str(caught.value) == "a.csv, row 3: nose has one coordinate"


def test_several_by_kind_with_the_first_of_each():
    faults = Faults("a.csv")
    for row in (3, 5, 9):
        faults.add("half a point", f"row {row}: half")
    with faults.collecting("another"):
        raise Fault("unreadable picture", "row 4: unreadable")
    with faults.collecting("another"):
        raise UserError("row 7: other")
    assert len(faults) == 5 and faults.count("half a point") == 3 and faults.count("none") == 0
    with pytest.raises(UserError) as caught:
        faults.raise_if_any()
    assert str(caught.value).splitlines() == [
        "a.csv: 5 faults; the first of each kind:",
        "- 3 x half a point: row 3: half",
        "- 1 x unreadable picture: row 4: unreadable",
        "- 1 x another: row 7: other",
    ]


def test_what_is_no_fault_of_the_user_goes_on():
    with pytest.raises(KeyError), Faults("a.csv").collecting("another"):
        raise KeyError


def test_by_kind_has_every_message():
    faults = Faults("a.csv")
    for kind, message in (("half a point", "row 3"), ("spacing", "row 4"), ("half a point", "row 5")):
        faults.add(kind, message)
    assert faults.by_kind() == {"half a point": ("row 3", "row 5"), "spacing": ("row 4",)}
