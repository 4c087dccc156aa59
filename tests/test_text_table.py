"""Tables as plain text."""

import pytest

from ctd_jax.text_table import text_table

ROWS = [("metric", "value", "", "p"), ("error", "1.25", "px", ""), ("a rate", "100.00", "%", "0.5")]


def test_columns_have_their_sides_and_gaps():
    assert text_table(ROWS, "<  > <   >") == [
        "metric   value        p",
        "error     1.25 px",
        "a rate  100.00 %    0.5",
    ]


def test_the_rule_is_as_long_as_the_longest_line():
    assert text_table([("a", ""), ("bcd", "")], "  <  >", rule=True) == ["  a", "-----", "  bcd"]
    assert text_table(ROWS, "<  > <   >", rule=True)[1] == "-" * 23


@pytest.mark.parametrize(("rows", "layout"), [([("a", "b")], "<"), ([("a",), ("b", "c")], "<")])
def test_every_row_has_a_cell_for_each_column(rows, layout):
    with pytest.raises(ValueError):
        text_table(rows, layout)
