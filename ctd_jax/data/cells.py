"""Numbers and words in the cells of a table, with the ways in which programs write a missing value."""

import collections
import logging
import re

import numpy as np

from ctd_jax.data.faults import Faults
from ctd_jax.data.tables import Sheet

_log = logging.getLogger(__name__)
MISSING = ("nan", "na", "n/a", "#n/a", "null", "none", "nil", "-", "--")
# Not "NA": somebody's initials. Where several cells of a column of `PEOPLE` have it, `say` warns.
NO_WORDS = ("nan", "n/a", "#n/a", "null", "none", "-", "--")
PEOPLE = ("subject", "rater")
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.IGNORECASE)


class Cells:
    """Reads the cells of one table; `say` tells, once, what was taken for what.

    Args:
      sheet: the table. Where its cells are not separated by commas, numbers may have a decimal comma.
      faults: takes what is no number.
    """

    def __init__(self, sheet: Sheet, faults: Faults):
        self._sheet, self._faults = sheet, faults
        self._missing: collections.Counter[str] = collections.Counter()
        self._na: collections.Counter[str] = collections.Counter()  # column of people -> its cells "NA"
        self._first: dict[str, str] = {}  # "," and "." -> the first number with it, and where

    def number(self, text: str, column: str, at: str) -> float:
        """A cell as a number, NaN where it is empty or says so, infinite where it is a fault. `at`: file and row."""
        if text == "":
            return np.nan
        try:
            value = np.inf if "_" in text else float(text)
        except ValueError:
            value = self._comma(text, at)
        if np.isfinite(value):
            if "." in text:
                self._first.setdefault(".", f"{at}: {text!r}")
            return value
        if text.casefold() in MISSING:
            self._missing[text] += 1
            return np.nan
        self._faults.add(
            "not a number",
            f"{at}: {column} is {text[:50]!r}; expected a number (with a decimal point), or an empty cell",
        )
        return np.inf

    def word(self, text: str, column: str = "") -> str:
        """A cell as a name, "" where it is empty or says so."""
        if text.casefold() in NO_WORDS:
            self._missing[text] += 1
            return ""
        if text.casefold() == "na" and column in PEOPLE:
            self._na[column] += 1
        return text

    def say(self) -> None:
        path = self._sheet.path
        if self._missing:
            words = ", ".join(f"{word!r} ({number})" for word, number in self._missing.most_common())
            _log.warning("%s: %d cells are taken as empty: %s", path, self._missing.total(), words)
        for column, number in self._na.items():
            if number > 1:
                _log.warning("%s: `%s` is NA in %d rows, which is read as the name of one person; if it means that "
                             "nothing is known, write who it is, or empty these cells",
                             path, column, number)  # fmt: skip
        if len(self._first) == 2:
            self._faults.add(
                "decimal points and commas", f"{self._first[',']} has a decimal comma, but {self._first['.']} a point; "
                "write all numbers in one way",
            )  # fmt: skip
        elif "," in self._first:
            _log.warning("%s: its numbers have a decimal comma and are read so, first %s", path, self._first[","])

    def _comma(self, text: str, at: str) -> float:
        if self._sheet.delimiter == "," or not _DECIMAL_COMMA.fullmatch(text):
            return np.inf
        self._first.setdefault(",", f"{at}: {text!r}")
        return float(text.replace(",", "."))
