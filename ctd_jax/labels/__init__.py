"""Label files of other programs: each becomes one table (`table.Labels`), and is written from it.

A format is a module with

* `recognises(name, head)`: whether a file of this name, in small letters, that begins with the text `head` is one; the
  text of a .zip is the names of the files in it, one a line;
* `read(path, context)`: the `Labels` of a file or folder, in our pixels, images as files below `context.pictures`; it
  raises a UserError that says file, entry, what was expected and what was found;
* `write(labels)`: name of each file, "" for the only one, -> its bytes; it raises a UserError where something is
  lacking;

and a row of `FORMATS` of its name.
"""

from typing import NamedTuple


class Format(NamedTuple):
    """A row of the table of formats.

    Attributes:
      about: what it is, for people.
      suffix: of the one file that has all pictures; "": a folder with a file for each.
      loses: what it can't hold, of `LOSSES`.
    """

    about: str
    suffix: str
    loses: tuple[str, ...]


LOSSES = (
    "hidden", "confidence", "subject", "spacing", "unequal spacing", "negative", "who", "names", "fractions", "digits",
)  # fmt: skip
FORMATS = {
    "coco": Format("COCO key points, JSON", ".json", ("confidence", "spacing", "who")),
    "labelme": Format("LabelMe, a JSON for each picture", "", ("hidden", "confidence", "spacing", "who")),
    "pts": Format(
        "300-W .pts, one for each picture", "", ("hidden", "confidence", "subject", "spacing", "who", "names")
    ),
    "tps": Format(
        "TPS of tpsDig and geomorph", ".tps", ("hidden", "confidence", "unequal spacing", "negative", "who", "names")
    ),
    "cvat": Format("CVAT for images, XML 1.1", ".xml", ("confidence", "subject", "spacing", "who")),
    "cvat_skeleton": Format(
        "CVAT for images, a skeleton in each picture", ".xml", ("confidence", "subject", "spacing", "who")
    ),
    "label_studio": Format("Label Studio, JSON", ".json", ("hidden", "spacing", "who")),
    "slicer": Format("3D Slicer .mrk.json, one for each picture", "", ("hidden", "confidence", "subject", "who")),
    "fcsv": Format("3D Slicer .fcsv, one for each picture", "", ("hidden", "confidence", "subject", "who")),
    "dlib": Format("dlib and imglab, XML", ".xml", ("hidden", "confidence", "subject", "spacing", "who", "fractions")),
    "imagej": Format(
        "ImageJ and Fiji .roi, one for each picture, or .zip",
        "",
        ("hidden", "confidence", "subject", "spacing", "who", "names", "digits"),
    ),
    "imagej_results": Format(
        "ImageJ's table of results, csv", ".csv", ("hidden", "confidence", "subject", "spacing", "who", "names")
    ),
    "deeplabcut": Format("DeepLabCut's CollectedData csv", ".csv", ("hidden", "confidence", "subject", "spacing")),
    "morphoj": Format(
        "MorphoJ's table of x1, y1, x2, y2", ".txt", ("hidden", "confidence", "subject", "spacing", "who", "names")
    ),
    "long": Format("a row for each picture and point, csv", ".csv", ("spacing",)),
    "xlsx": Format("the same as an Excel workbook", ".xlsx", ("spacing",)),
    "sleap": Format(
        "SLEAP .slp, where sleap-io is installed", ".slp", ("hidden", "confidence", "subject", "spacing", "who")
    ),
}
