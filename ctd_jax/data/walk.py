"""The user's files in folders and below them, behind links too."""

import os
import pathlib
from collections.abc import Sequence

NOT_THE_USERS = "__MACOSX"  # beside what begins with a dot, as ._a.png and .ipynb_checkpoints/ do


def files_below(folders: Sequence[pathlib.Path]) -> dict[pathlib.Path, list[pathlib.Path]]:
    """Each of the folders -> the user's files in it and below it, sorted. A linked folder is entered too, if it is met
    nowhere without a link: none twice, and none around the folder."""
    found: dict[pathlib.Path, list[pathlib.Path]] = {folder: [] for folder in folders}
    around = {folder: set(map(str, folder.resolve().parents)) for folder in found}
    seen: set[str] = set()
    starts = [(folder, folder) for folder in found]
    for top, start in starts:  # gets longer by the links on the way
        for place, inside, names in os.walk(start):
            real = os.path.realpath(place)
            if start != top and (real in seen or real in around[top]):
                inside.clear()
                continue
            seen.add(real)
            here = pathlib.Path(place)
            inside[:] = filter(_is_the_users, sorted(inside))
            found[top] += [here / name for name in filter(_is_the_users, names)]
            starts += [(top, here / name) for name in inside if (here / name).is_symlink()]
    return {folder: sorted(files) for folder, files in found.items()}


def _is_the_users(name: str) -> bool:
    return not name.startswith(".") and name != NOT_THE_USERS
