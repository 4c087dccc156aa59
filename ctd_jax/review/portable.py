"""The page as one file with the pictures in it, for a rater who has neither the folder nor this program.

Names of pictures and of the folder are not in it; a key, which stays here, says which picture has which number. Nothing
that the picture files hold beside the picture is in it, either: they are encoded anew.
"""

import base64
import io
import pathlib
import secrets
from collections.abc import Iterator
from typing import Any

from PIL import Image

from ctd_jax import files
from ctd_jax.data.prefetch import progress
from ctd_jax.errors import UserError
from ctd_jax.review import page
from ctd_jax.review.folder import Reviewed
from ctd_jax.review.pictures import Pictures
from ctd_jax.review.proposals import Predict

QUALITY = 92  # of JPEG
LARGE, MOST = 100, 1000  # MB of the file: more is warned of, or refused
LETTERS = "bcdfghjklmnpqrstvwxz"  # no vowels: no spreadsheet takes a name for a number or a date
KEY, PROPOSED = ("picture", "image"), "proposed"  # columns; the last is 1 where points of the picture were proposed


def key_of(out: pathlib.Path) -> pathlib.Path:
    """Where the key of a file lies."""
    return out.with_name(f"{out.stem}.key.csv")


def write(reviewed: Reviewed, predict: Predict, out: pathlib.Path, longest: int) -> str:
    """Writes the file, and its key beside it.

    Args:
      reviewed: the folder; its labels are not in the file.
      predict: says the points to begin with.
      out: the file.
      longest: side of a picture in it, pixels; coordinates are those of the original all the same.

    Returns:
      Sentences that say what was written.

    Raises:
      UserError: there is such a file, or a key, already; a picture can't be read; the file would be too large.
    """
    files.expect("portable", out, ".html")
    for path in (out, key_of(out)):
        if path.exists():
            raise UserError(f"--portable: {path} is there already; a rater may have the file, so give another name")
    numbered = _numbered(len(reviewed.images))
    shown = Pictures(reviewed.root, reviewed.images)
    encoded = list(progress(_encoded(shown, reviewed, longest), "pictures", len(reviewed.images)))
    proposed = [predict(image) for image in progress(reviewed.images, "points", len(reviewed.images))]
    content = page.of_folder(reviewed) | {
        "images": numbered,
        "pictures": encoded,
        "proposed": proposed,
        "folder": out.stem,
        "id": numbered[0],
    }
    text = page.portable(content)
    size = len(text.encode()) / 1e6
    print(f"{out} will have {size:.1f} MB" + (", which is much for a mail" if size > LARGE else ""))
    said = ["1" if points else "" for points in proposed]
    rows = list(zip(numbered, map(files.cell, reviewed.images), said, strict=True))
    files.write_csv(key_of(out), (*KEY, PROPOSED), rows)
    files.write_text(out, text)
    return (
        f"{out}: {len(numbered)} pictures of at most {longest} pixels. Send it; what comes back is "
        f"{out.stem}_points.csv, which `ctd-jax labels import` takes with --key={key_of(out)}. The key says which "
        "picture is which: it stays here"
    )


def _numbered(count: int) -> list[str]:
    """Names of pictures that say nothing of them, and that those of another file don't have."""
    word = "".join(secrets.choice(LETTERS) for _ in range(5))
    return [f"{word}-{number:0{len(str(count))}d}" for number in range(1, count + 1)]


def _encoded(shown: Pictures, reviewed: Reviewed, longest: int) -> Iterator[dict[str, Any]]:
    total = 0
    for image in reviewed.images:
        picture, (width, height) = shown.whole(image, longest)
        data = base64.b64encode(_jpeg(picture)).decode()
        total += len(data)
        if total > MOST * 1e6:
            raise UserError(
                f"--portable: the file would have more than {MOST} MB, which no browser opens well; take a smaller "
                f"--portable_side than {longest}, or fewer pictures"
            )
        yield {"width": width, "height": height, "data": data}


def _jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY, subsampling=0)
    return file.getvalue()
