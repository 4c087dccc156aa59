"""Label slips in words and pictures."""

from collections.abc import Sequence

import numpy as np

from ctd_jax.data.landmark_folder import LandmarkTable
from ctd_jax.inspection import label_slips
from ctd_jax.inspection.findings import Finding, Item
from ctd_jax.inspection.label_slips import Slip
from ctd_jax.inspection.painting import Painter

NAMED = 4  # landmarks that a sentence names
KINDS = {  # kind of slip -> title, whether it spoils a training, what it means
    label_slips.SIDES: ("Left and right exchanged", True, "The points fit the other pictures where left and right are "
                        "exchanged. Correct the rows, unless the picture itself is mirrored."),
    label_slips.TWO: ("Two landmarks exchanged", True, "The points fit the other pictures where these two are "
                      "exchanged."),
    label_slips.FAR: ("Points far off", False, "They lie where neither the other points of the picture nor the other "
                      "pictures expect them (the crosses). Some are right: look at each."),
    label_slips.SHAPE: ("Shapes unlike the others", False, "More than a third of the points lie where the others do "
                        "not expect them: another view, another order of the landmarks, another picture?"),
}  # fmt: skip


def findings(table: LandmarkTable, flip_order: Sequence[int] | None, painter: Painter, shown: int) -> list[Finding]:
    """A finding for each kind of slip, the worst pictures first, `shown` of them with their picture."""
    slips = label_slips.find(table.xy, flip_order)
    found = []
    for kind, (title, spoils, about) in KINDS.items():
        mine = [slip for slip in slips if slip.kind == kind]
        items = [_item(table, slip, painter if number < shown else None) for number, slip in enumerate(mine)]
        found.append(Finding(title, spoils, f"{about} Circle: annotated; cross: expected.", items))
    return found


def _item(table: LandmarkTable, slip: Slip, painter: Painter | None) -> Item:
    names = [table.landmarks.names[k] for k in slip.landmarks]
    images: tuple[tuple[str, str], ...] = ()
    if painter:
        written = table.landmarks.names if len(names) <= NAMED else None
        images = ((painter.points(slip.row, slip.expected, written), table.images[slip.row]),)
    return Item(_text(names, slip), (slip.row,), images)


def _text(names: Sequence[str], slip: Slip) -> str:
    where = "from where the others expect them"
    if not names:
        return "each landmark fits where the other of its pair is expected; no pair has both annotated"
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    if np.isnan(slip.pixels).any():
        return f"{', '.join(names[:NAMED])}{more} lie in one place with others: where they belong can't be told"
    if len(names) > NAMED and slip.exchanged:
        now, then = (sum(pixels) / len(pixels) for pixels in (slip.pixels, slip.exchanged))
        return f"{len(names)} landmarks lie {now:.0f} px {where} on average, {then:.0f} px once they are exchanged"
    far = "; ".join(f"{name} {pixels:.0f} px" for name, pixels in zip(names[:NAMED], slip.pixels, strict=False))
    exchanged = " and ".join(f"{pixels:.0f} px" for pixels in slip.exchanged)
    return f"{far}{more} {where}{f'; once they are exchanged, {exchanged}' if exchanged else ''}"
