"""Pictures that lie in a .zip beside their labels, as CVAT's exports have them."""

import contextlib
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

from ctd_jax.data import pictures
from ctd_jax.errors import UserError
from ctd_jax.labels import reading

MAX_GIB = 64  # of the pictures, unpacked


@contextlib.contextmanager
def unpacked(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder with the pictures of a .zip, which is gone after the block.

    Raises:
      UserError: there are none, or more than `MAX_GIB`; one would lie outside of the folder; the file is damaged.
    """
    with tempfile.TemporaryDirectory() as folder:
        with reading.archive(path) as archive:
            inside = [one for one in archive.infolist() if one.filename.lower().endswith((*pictures.SUFFIXES, ".gif"))]
            if not inside:
                raise UserError(f"{path}: has no pictures; give the folder that has them, --images=DIR")
            size = sum(one.file_size for one in inside) / 2**30
            if size > MAX_GIB:
                raise UserError(f"{path}: {size:.0f} GiB of pictures; unpack it by hand, and give --images=DIR")
            for one in inside:
                place = pathlib.PurePosixPath(one.filename.replace("\\", "/"))
                if place.is_absolute() or ".." in place.parts or ":" in place.parts[0]:
                    raise UserError(f"{path}: picture {one.filename[:200]!r} leads out of the folder; pack it anew")
                target = pathlib.Path(folder, place)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(one) as packed, target.open("wb") as file:
                    shutil.copyfileobj(packed, file)
        own = pathlib.Path(folder, "images")  # of CVAT, whose names begin below it
        yield own if all(one.filename.startswith("images/") for one in inside) else pathlib.Path(folder)
