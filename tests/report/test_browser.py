"""The pages as a browser shows them: at the width of a phone and of a desk, light and dark.

Two starts of chromium, about two seconds each. Skipped where there is none.
"""

import html
import json
import re
import subprocess

import chromium
import numpy as np
import pytest
from report_files import MEASUREMENTS, make_run, picture, written

from ctd_jax import report
from ctd_jax.metrics import segmentation

DARK = "--blink-settings=preferredColorScheme=0"
PHONE, DESK = 360, 1200  # pixels
LONG = "a_landmark_with_a_name_that_is_longer_than_most_screens_of_a_phone_are_wide"
# Each page in a frame of each width; what the browser made of it becomes an attribute of the outer page.
MEASURE = """
addEventListener("load", () => {
  const found = [...document.querySelectorAll("iframe")].map(frame => {
    const page = frame.contentDocument, root = page.documentElement, style = getComputedStyle(page.body);
    const right = element => element.getBoundingClientRect().right;
    const wider = [...page.querySelectorAll("body *")].filter(element => right(element) > root.clientWidth + 1);
    const images = [...page.images];
    return {
      name: frame.name, width: root.clientWidth, scroll: root.scrollWidth, wider: wider.map(e => e.tagName),
      tables: [...page.querySelectorAll(".scroll")].map(e => e.scrollWidth - e.clientWidth),
      images: images.length, empty: images.filter(image => !image.naturalWidth).length,
      ink: style.color, paper: style.backgroundColor,
      first: images.length ? images[1].getBoundingClientRect().top : 0,
    };
  });
  document.documentElement.setAttribute("data-found", JSON.stringify(found));
});
"""

pytestmark = chromium.needed


def landmark_page(folder):
    """A page with everything that a run may have, and a long name; its text."""
    summary = make_run(folder, measured=MEASUREMENTS, splits=("test1", "test2"))
    shape = {key: value for key, value in summary.items() if isinstance(value, float)}
    shape |= {"per_landmark": summary["per_landmark"], "ci95": summary["ci95"], "beaten": True}
    rename = {name: f"{name}_{LONG}" if name == "chin" else name for name in summary["per_landmark"]}
    for part in (summary, shape):
        part["per_landmark"] = {rename[name]: one | {"n_train": 3} for name, one in part["per_landmark"].items()}
    content = summary | {"mean_shape": shape, "cautions": [f"{LONG} is never found."], "config_hash": "a" * 12}
    (folder / "metrics.json").write_text(json.dumps(content))
    written(folder)
    return (folder / "report.html").read_text("utf-8")


def segmentation_page(folder):
    classes, rows = {"knee": ["background", LONG]}, []
    true = np.zeros((24, 30), np.uint8)
    true[4:12, 4:12] = 1
    for i in range(3):
        row = {"image": f"{i}.png", "subject": f"s{i}", "domain": "knee", "class": LONG}
        rows.append(row | segmentation.measure(true == 1, np.roll(true, i, 1) == 1, np.full(2, 0.5)))
    segmentation.write(folder / "segmentation_metrics.csv", rows)
    result = segmentation.summarize(segmentation.read(folder / "segmentation_metrics.csv"), classes)
    result |= {"split": "test", "classes": classes, "n_params": 5, "config_hash": "abc"}
    result |= {"mean_map": {"dice_knee": 0.25, "beaten": {"knee": True}}}
    (folder / "metrics.json").write_text(json.dumps(result))
    (folder / "config.json").write_text(json.dumps({"seed": 7}))
    path = report.segmentation.write(folder, lambda image: (picture(image)[:24, :30], true, true), picture)
    return path.read_text("utf-8")


def domains_page(folder):
    each = {}
    for name in ("hips", LONG):
        (folder / name).mkdir()
        each[name] = make_run(folder / name) | {"mean_shape": {"me_px": 12.345}, "cautions": []}
    content = {"split": "test", "n_params": 1234567, "versions": {"jax": "0.0"}, "domains": each}
    (folder / "metrics.json").write_text(json.dumps(content))
    return report.domains.write(folder).read_text("utf-8")


def browse(folder, *arguments):
    """The standard output of the browser."""
    command = [chromium.PROGRAM, *chromium.FLAGS, f"--user-data-dir={folder / 'profile'}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Name -> the text of a page."""
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    for write in (landmark_page, segmentation_page, domains_page):
        (folder / write.__name__).mkdir()
        found[write.__name__] = write(folder / write.__name__)
    return found


def measured(folder, pages, *arguments):
    """(name, width) -> what the browser made of that page in a frame of that width."""
    frames = [
        f'<iframe name="{name}" width="{width}" height="800" style="border:0" srcdoc="{html.escape(text)}"></iframe>'
        for name, text in pages.items()
        for width in (PHONE, DESK)
    ]
    outer = folder / "frames.html"
    outer.write_text(f"<!DOCTYPE html><html><body>{''.join(frames)}<script>{MEASURE}</script></body></html>", "utf-8")
    source = browse(folder, *arguments, "--dump-dom", outer.as_uri())
    found = json.loads(html.unescape(re.search(r'data-found="([^"]*)"', source)[1]))
    return {(one["name"], one["width"]): one for one in found}


def brightness(colour):
    """0 to 255 of `rgb(r, g, b)`."""
    return np.mean([float(part) for part in re.findall(r"[\d.]+", colour)[:3]])


@pytest.mark.slow
def test_nothing_scrolls_sideways_and_every_picture_is_shown(pages, tmp_path):
    found = measured(tmp_path, pages)
    assert set(found) == {(name, width) for name in pages for width in (PHONE, DESK)}
    for key, one in found.items():
        assert one["scroll"] <= one["width"] and one["wider"] == [], key
        assert max(one["tables"], default=0) <= 0, key
        assert one["empty"] == 0 and (one["images"] > 0) == (key[0] != "domains_page"), key
        assert brightness(one["paper"]) > 200 > 100 > brightness(one["ink"]), key
    # the first picture (after the legend) stands on the first screen of a desk
    assert found["landmark_page", DESK]["first"] < 700


@pytest.mark.slow
def test_dark_where_the_reader_asks_for_it(pages, tmp_path):
    for key, one in measured(tmp_path, pages, DARK).items():
        assert brightness(one["paper"]) < 60 < 180 < brightness(one["ink"]), key
