"""Norms that somebody brings: means and standard deviations of measurements, by sex and age, and what they say of the
measurements of people."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from ctd_jax import files
from ctd_jax.data import columns, tables
from ctd_jax.data.cells import Cells
from ctd_jax.data.faults import Faults
from ctd_jax.errors import UserError
from ctd_jax.metrics import plane
from ctd_jax.metrics.agreement import Measured
from ctd_jax.metrics.measurements import are_turns

NEEDED = ("measurement", "unit", "mean", "sd")
BY = ("sex", "age_from", "age_to")
PERSON = ("sex", "age")


@dataclasses.dataclass(frozen=True)
class Norm:
    """One row: people of this sex ("": any), from `age_from` on and below `age_to`, years."""

    measurement: str
    unit: str
    mean: float
    sd: float
    sex: str
    age_from: float
    age_to: float
    at: str

    def holds(self, sex: str, age: float) -> bool:
        """Whether it is a norm of somebody of this sex and age ("" and NaN: unknown)."""
        of_any_age = math.isinf(self.age_from) and math.isinf(self.age_to)
        return self.sex in ("", sex) and (of_any_age or self.age_from <= age < self.age_to)


@dataclasses.dataclass(frozen=True)
class Norms:
    """Norms, and the sex and age of those on the pictures."""

    norms: Mapping[str, Sequence[Norm]]  # of each measurement
    people: Mapping[str, tuple[str, float]]  # picture -> sex and age

    def applied(self, measured: Measured) -> Measured:
        """`measured` with `z` = (value - mean) / sd, and a reason where that is unknown although there are norms."""
        z, reasons = np.full(len(measured.value), np.nan), measured.reasons.astype(object)
        for i, name in enumerate(measured.names.tolist()):
            if name in self.norms and math.isfinite(measured.value[i]):
                z[i], why = self._z(name, str(measured.images[i]), str(measured.units[i]), measured.value[i])
                reasons[i] = "; ".join(filter(None, (reasons[i], why)))
        return dataclasses.replace(measured, z=z, reasons=reasons.astype(str))

    def _z(self, name: str, image: str, unit: str, value: float) -> tuple[float, str]:
        sex, age = self.people.get(os.path.normpath(image), ("", math.nan))
        holding = [norm for norm in self.norms[name] if norm.holds(sex, age)]
        if not holding:
            years = f"{age:g} years" if math.isfinite(age) else "unknown age"
            return math.nan, f"no norm of sex {sex or 'unknown'}, {years}"
        (norm,) = holding
        if norm.unit != unit.removesuffix(" unsigned"):
            return math.nan, f"the norm is in {norm.unit or 'no unit'}, the value in {unit or 'none'}"
        if are_turns(unit, value, norm.mean):
            value = float(plane.turned(value, norm.mean))
        return (value - norm.mean) / norm.sd, ""


def read(norms: pathlib.Path, people: pathlib.Path | None, measurements: Sequence[str]) -> Norms:
    """The norms of a table, for pictures of the people of another one.

    Args:
      norms: csv file with the columns `NEEDED`, and those of `BY` that count.
      people: csv file with the columns image and those of `PERSON` that count; None: nobody's sex and age are known.
      measurements: names of those that are made.

    Raises:
      UserError: all that is wrong with a table; no norm of any of the measurements; norms by sex or age, but no people.
    """
    found = _read_norms(norms)
    if not set(found) & set(measurements):
        raise UserError(
            f"{norms}: norms of {tables.listed(sorted(found))}, and none of what is measured: "
            f"{tables.listed(list(measurements))}"
        )
    every = [norm for of_one in found.values() for norm in of_one]
    asked = [word for word, is_asked in (
        ("sex", any(norm.sex for norm in every)),
        ("age", any(math.isfinite(norm.age_from) or math.isfinite(norm.age_to) for norm in every)),
    ) if is_asked]  # fmt: skip
    if asked and people is None:
        raise UserError(f"{norms}: norms by {' and '.join(asked)}; give those of the people, --people=FILE.csv")
    return Norms(found, _read_people(people, asked) if people else {})


def _read_norms(path: pathlib.Path) -> dict[str, list[Norm]]:
    faults = Faults(str(path))
    sheet = columns.match(tables.read(path, "measurement"), [*NEEDED, *BY], faults, others=True)
    if not set(NEEDED) <= set(sheet.columns):
        found = tables.listed(sheet.columns)
        raise UserError(f"{path}: expected the columns {', '.join(NEEDED)}, found {found}")
    cells, norms = Cells(sheet, faults), dict[str, list[Norm]]()
    for number, row in sheet.rows(faults):
        at = f"{path}, row {number}"
        mean, sd = (cells.number(row[key], key, at) for key in ("mean", "sd"))
        low, high = (cells.number(row.get(key, ""), key, at) for key in ("age_from", "age_to"))
        if not (math.isfinite(mean) and math.isfinite(sd) and sd > 0):
            faults.add("norm", f"{at}: mean is {row['mean']!r} and sd {row['sd']!r}; expected numbers, sd above 0")
        if low >= high:
            faults.add("ages", f"{at}: age_from is {low:g} and age_to {high:g}; expected the first to be smaller")
        name, unit = files.plain(row["measurement"]), row["unit"].removesuffix(" unsigned")
        ages = (-math.inf if math.isnan(low) else low, math.inf if math.isnan(high) else high)
        norm = Norm(name, unit, mean, sd, row.get("sex", "").casefold(), *ages, at)
        twice = next((one for one in norms.get(name, ()) if _overlap(one, norm)), None)
        if twice:
            faults.add("two norms of one person", f"{at}: people of this sex and age have a norm in {twice.at} too")
        norms.setdefault(name, []).append(norm)
    cells.say()
    faults.raise_if_any()
    return norms


def _overlap(a: Norm, b: Norm) -> bool:
    return (a.sex == b.sex or "" in (a.sex, b.sex)) and a.age_from < b.age_to and b.age_from < a.age_to


def _read_people(path: pathlib.Path, asked: Sequence[str]) -> dict[str, tuple[str, float]]:
    faults = Faults(str(path))
    sheet = columns.match(tables.read(path), ["image", *PERSON], faults, others=True)
    if not set(asked) <= set(sheet.columns):
        raise UserError(f"{path}: expected the columns {', '.join(asked)}, found {tables.listed(sheet.columns)}")
    cells, people = Cells(sheet, faults), dict[str, tuple[str, float]]()
    for number, row in sheet.rows(faults):
        at, image = f"{path}, row {number}", os.path.normpath(files.plain(row["image"]))
        age = cells.number(row.get("age", ""), "age", at)
        if age < 0:
            faults.add("age", f"{at}: age is {age:g}; expected years, 0 or more")
        if image in people:
            faults.add("two rows of a picture", f"{at}: {image} has another row above; keep one of them")
        people[image] = row.get("sex", "").casefold(), age
    cells.say()
    faults.raise_if_any()
    return people
