"""Which column is which: other capitals, other words for a split or a subject, and columns that mean nothing."""

import collections
import dataclasses
import logging
import unicodedata
from collections.abc import Sequence

from ctd_jax.data import splits, tables
from ctd_jax.data.faults import Faults
from ctd_jax.data.tables import Sheet

_log = logging.getLogger(__name__)
# Overlooked, they change who is trained on. Other programs' words for them.
SPLIT = ("set", "partition", "fold", "subset")
SUBJECT = ("patient", "person", "patient_id", "subject_id", "person_id", "patientid", "subjectid", "personid")
TYPO = 0.75  # likeness, of `difflib`, from which a column is taken for a mistyped `split` or `subject`


def match(sheet: Sheet, known: Sequence[str], faults: Faults, *, others: bool = False) -> Sheet:
    """`sheet` with the columns of `known` under these names, whatever capitals or word the file has for them. Warns of
    what was read as what, and, unless there may be `others`, of columns that mean nothing."""
    folded = collections.defaultdict(list)
    for name in sheet.names:
        folded[_fold(name)].append(name)
    meant, there, wanted = dict(sheet.meant), set(sheet.columns), set(known)
    for column in known:
        same = [name for name in folded[_fold(column)] if name not in wanted]
        if column in there or not same:
            continue
        if len(same) > 1:
            faults.add("column twice", f"{sheet.path}: {' and '.join(same)} may both be `{column}`; keep one of them")
        meant[same[0]] = column
    there |= set(meant.values())
    if "split" in known and "split" not in there:
        meant |= _split(dataclasses.replace(sheet, meant=meant), faults)
    if "subject" in known and "subject" not in there:
        called = [name for name in sheet.names if _fold(name) in SUBJECT]
        meant |= {called[0]: "subject"} if called else {}
    if meant:
        words = [f"`{name}` as `{column}`" for name, column in meant.items()]
        _log.warning("%s: read %s", sheet.path, tables.listed(words))
    sheet = dataclasses.replace(sheet, meant=meant)
    _name_unknown(sheet, known, faults, say=not others)
    return sheet


def _name_unknown(sheet: Sheet, known: Sequence[str], faults: Faults, *, say: bool) -> None:
    there, wanted = set(sheet.columns), set(known)
    unknown = [name or "one without a name" for name in sheet.columns if name not in wanted]
    absent = [column for column in known if column not in there]
    for column in ("split", "subject"):
        typo = tables.nearest(column, unknown, TYPO) if column in absent else None
        if typo:
            faults.add(
                "unknown column",
                f"{sheet.path}: column `{typo}` means nothing here; is it `{column}`? then correct it, else give it "
                "a name that is less like it",
            )
    if unknown and say:
        near = {name: tables.nearest(name, absent, TYPO) for name in unknown[: tables.LISTED]}
        words = [f"{name} (is it `{near[name]}`?)" if near.get(name) else name for name in unknown]
        _log.warning("%s: columns that mean nothing here: %s", sheet.path, tables.listed(words))


def _split(sheet: Sheet, faults: Faults) -> dict[str, str]:
    """The column of another name that has the splits, if there is one; it must have words of splits."""
    called = [name for name in sheet.names if _fold(name) in SPLIT]
    if not called:
        return {}
    place = sheet.names.index(called[0])
    words = {row[sheet.columns[place]] for _, row in sheet.rows(Faults(""))}
    if any(splits.is_known(word) for word in words):
        return {called[0]: "split"}
    faults.add(
        "split",
        f"{sheet.path}: column `{called[0]}` may be the split, but has {tables.listed(sorted(words), 5)}; expected a "
        f"column `split` with train, val and test; without one, and without {', '.join(SPLIT)}, it is made at random",
    )
    return {}


def _fold(name: str) -> str:
    return "_".join(unicodedata.normalize("NFC", name).casefold().replace("-", " ").replace("_", " ").split())
