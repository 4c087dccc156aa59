"""The user's files in folders and below them, behind links too."""

import os
import pathlib
from collections.abc import Sequence

from ctd_jax import files

NOT_THE_USERS = "__MACOSX"  # beside what begins with a dot, as ._a.png and .ipynb_checkpoints/ do


def files_below(folders: Sequence[pathlib.Path]) -> dict[pathlib.Path, list[pathlib.Path]]:
    """Each of the folders -> the user's files in it and below it, sorted. A linked folder is entered too, if it is met
    nowhere without a link: none twice, and none around the folder. A run, or a study of several, is not entered."""
    found: dict[pathlib.Path, list[pathlib.Path]] = {folder: [] for folder in folders}
    around = {folder: set(map(str, folder.resolve().parents)) for folder in found}
    seen: set[str] = set()
    starts = [(folder, folder) for folder in found]
    for top, start in starts:  # gets longer by the links on the way
        for place, inside, names in os.walk(start):
            real, here = os.path.realpath(place), pathlib.Path(place)
            met = start != top and (real in seen or real in around[top])
            if met or (here != top and files.is_result(here)):
                inside.clear()
                continue
            seen.add(real)
            inside[:] = filter(_is_the_users, sorted(inside))
            found[top] += [here / name for name in filter(_is_the_users, names)]
            starts += [(top, here / name) for name in inside if (here / name).is_symlink()]
    return {folder: sorted(mine) for folder, mine in found.items()}


def _is_the_users(name: str) -> bool:
    return not name.startswith(".") and name != NOT_THE_USERS
