"""The page in a browser: what a hand on a mouse, a finger or a key does to it, and what is on the disk after that.

One start of chromium, about two seconds. Skipped where there is none.
"""

import csv
import hashlib
import json
import pathlib
import time

import chromium
import numpy as np
import pytest
from PIL import Image
from review_server import serving

from ctd_jax.data import landmark_folder as reader
from ctd_jax.metrics import definitions, measurements
from ctd_jax.review import fitting, journal, mailed, portable, sorting
from ctd_jax.review import folder as reviewed_folder
from ctd_jax.review import server as review_server
from ctd_jax.review.edits import Review

pytestmark = chromium.needed
READY = "page.shown !== undefined && page.shown === page.index && page.pictures.proposed.has(page.index)"
SAVED = "at('saved').textContent === 'saved' && at('trouble').hidden"
FIRST, NEXT = "images/000.png", "images/001.png"
SKELETON = [["nasion", "left_ala"], ["left_ala", "chin"]]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = chromium.Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def drawn(landmark_folder):
    """Name -> points, `[K, 2]`, of eight drawn faces; the folder has the labels of the last four alone."""
    root = landmark_folder(people=8, shots=1, size=160)
    with (root / "landmarks.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = reader.read(root).landmarks.names
    xy = {row["image"]: np.array([[float(row[f"{name}_{axis}"]) for axis in "xy"] for name in names]) for row in rows}
    lines = (root / "landmarks.csv").read_text().splitlines()
    (root / "landmarks.csv").write_text("\n".join(lines[:1] + lines[5:]) + "\n")
    about = json.loads((root / "dataset.json").read_text())
    about |= {
        "skeleton": SKELETON,
        "measurements": {"height": ["nasion", "chin"], "tilt": ["nasion", "chin", "left_ala"]},
    }
    (root / "dataset.json").write_text(json.dumps(about))
    return root, names, xy


@pytest.fixture
def folder(drawn, tmp_path):
    """A copy of the folder; a prediction for its first two pictures, 3 px to the right of the truth."""
    import shutil

    root, names, xy = drawn
    shutil.copytree(root, tmp_path / "faces")

    def predict(image):
        if image not in (FIRST, NEXT):
            return {}
        values = zip(names, (xy[image] + [3, 0]).tolist(), strict=True)
        return {name: {"x": x, "y": y, "state": "placed", "how": "predicted"} for name, (x, y) in values}

    return tmp_path / "faces", predict


@pytest.fixture
def used(browser, folder):
    """The page at the first picture, whose points are proposed; and its server."""
    root, predict = folder
    with serving(root, predict=predict) as server:
        page = browser.page(server.address)
        page.size(1200, 800)
        page.wait(READY)
        go(page, FIRST)
        yield page, server
        assert page.complaints() == []
        page.close()


def go(page, image):
    page(f"page.go(page.images.indexOf({json.dumps(image)}))")
    page.wait(f"page.image === {json.dumps(image)} && {READY}")


def hold(page):
    """The page on a phone, once the lists have slid away: until then they would get what a finger does."""
    page.size(390, 844, phone=True)
    gone = " && ".join(f"getComputedStyle(at('{name}')).visibility === 'hidden'" for name in ("pictures", "panel"))
    page.wait(f"innerWidth === 390 && at('stage').clientWidth === 390 && {gone}")
    page("page.fit()")


def place(page, name, dy=0):
    """Where a point is in the window."""
    script = "(() => {{ const p = page.points()[{0}], b = at('stage').getBoundingClientRect(); "
    script += "const [x, y] = page.view.toScreen(p.x, p.y); return [x + b.left, y + b.top + {1}] }})()"
    return page(script.format(json.dumps(name), dy))


def point(page, name):
    return page(f"page.points()[{json.dumps(name)}]")


def zoom(page, name, factor):
    """A zoom with a point near the middle of the stage, at a place between pixels of the screen."""
    script = (
        "(() => {{ const p = page.points()[{0}], v = page.view; v.zoomAt(0, 0, {1}); const [x, y] = v.toScreen(p.x, "
    )
    script += "p.y); v.pan(400.37 - x, 300.81 - y); v.draw(); page.redraw() }})()"
    page(script.format(json.dumps(name), factor))


def on_disk(server):
    return Review(journal.read(server.path))


@pytest.mark.slow
def test_a_dragged_point_is_on_the_disk_to_a_twentieth_of_a_pixel(used):
    page, server = used
    names = server.reviewed.names
    for i, name in enumerate(names[:10]):
        factor, by = (0.5, 3, 12, 20, 0.3)[i % 5], ((17, 12), (13, 19), (14, 7))[i % 3]
        page(f"page.select('{name}')")  # of several points at one place, the selected one is dragged
        zoom(page, name, factor)
        before, start = point(page, name), place(page, name)
        assert before["how"] == "predicted"
        dx, dy = (step if before[axis] < 80 else -step for step, axis in zip(by, "xy", strict=True))  # to the middle
        grip = [start[0] + 3, start[1] - 2]  # beside its middle: it does not jump under the hand
        page.drag(grip, [grip[0] + dx, grip[1] + dy])
        found = point(page, name)
        assert found["x"] == pytest.approx(before["x"] + dx / factor, abs=0.05)
        assert found["y"] == pytest.approx(before["y"] + dy / factor, abs=0.05)
        assert (found["state"], found["how"]) == ("placed", "hand")
        assert found["moved"] == pytest.approx(np.hypot(dx, dy) / factor, abs=0.05)
        page.wait(SAVED)
        assert on_disk(server).points[FIRST][name] == found
    page.reload()
    page.wait(READY)
    go(page, FIRST)
    assert {name: point(page, name) for name in names[:10]} == on_disk(server).points[FIRST]
    seconds = [entry["seconds"] for entry in journal.read(server.path) if entry["kind"] == "edit"]
    assert len(seconds) == 10 and min(seconds) > 0


def test_the_picture_and_its_points_move_as_one(used):
    """The colour of the screen at a point is that of the picture there, at any zoom."""
    page, server = used
    picture = np.asarray(Image.open(server.root / FIRST).convert("RGB"))
    for factor in (6, 20):
        zoom(page, "chin", factor)
        for x, y, beside in ((40, 50, -0.4), (40, 50, 0.4), (41, 52, 0)):  # all of a pixel is about its centre
            script = f"""(() => {{ const v = page.view, [sx, sy] = v.toScreen({x + beside}, {y + beside});
                v.pan(300 - sx, 200 - sy); v.draw();
                return [...v.canvas.getContext("2d").getImageData(300, 200, 1, 1).data].slice(0, 3) }})()"""
            assert page(script) == picture[y, x].tolist()


def test_the_wheel_zooms_at_the_cursor_and_a_drag_beside_the_points_pans(used):
    page, _ = used
    box = page("(() => { const b = at('stage').getBoundingClientRect(); return [b.left, b.top] })()")
    box = [round(value) for value in box]  # a wheel turns at whole pixels
    under = f"page.view.toPicture(200, {box[1] + 150} - at('stage').getBoundingClientRect().top)"
    before, size = page(under), page("page.view.zoom")
    page.mouse("mouseWheel", box[0] + 200, box[1] + 150, deltaX=0, deltaY=-240, button="none", buttons=0)
    page.wait(f"page.view.zoom > {size} * 1.2")
    np.testing.assert_allclose(page(under), before, atol=1e-6)
    left = page("[page.view.left, page.view.top]")
    page.drag((box[0] + 20, box[1] + 20), (box[0] + 70, box[1] + 50))
    assert page("[page.view.left, page.view.top]") == pytest.approx([left[0] + 50, left[1] + 30])
    page.press("f")
    assert page("page.view.isFitted && page.view.zoom") == pytest.approx(size)


@pytest.mark.parametrize("is_shape", [False, True])
def test_a_drag_goes_on_at_the_cursor_when_the_picture_is_zoomed(used, is_shape):
    """By the wheel and by a key."""
    page, _ = used
    zoom(page, "chin", 3)
    page("page.select('chin')")
    if is_shape:
        page.press("t")
    x, y = place(page, "chin")
    page.mouse("mouseMoved", x, y)
    page.mouse("mousePressed", x, y)
    page.mouse("mouseMoved", x + 20, y + 10, button="left", buttons=1)
    page.mouse("mouseWheel", x + 20, y + 10, deltaX=0, deltaY=-240)
    page.wait("page.view.zoom > 3.1")
    page.press("w")
    page.mouse("mouseMoved", x + 40, y + 12, button="left", buttons=1)
    page.mouse("mouseReleased", x + 40, y + 12)
    assert place(page, "chin") == pytest.approx([x + 40, y + 12], abs=0.1)


def test_a_key_that_is_held_marks_nothing(used):
    """But arrows and zoom go on."""
    page, server = used

    def held(key, code, **more):
        shared = {"key": key, "windowsVirtualKeyCode": code, "autoRepeat": True, **more}
        page.ask("Input.dispatchKeyEvent", type="keyDown", **shared)

    page("page.select('chin')")
    for key in " 123v":
        held(key, ord(key.upper()), text=key)
    page("at('done').focus()")
    held("Enter", 13, text="\r")
    assert page("[page.image, page.review.points.size, page.review.done.size]") == [FIRST, 0, 0]
    page("at('stage').focus()")
    before, size = point(page, "chin")["x"], page("page.view.zoom")
    held("ArrowRight", 39)
    held("w", ord("W"), text="w")
    assert point(page, "chin")["x"] == pytest.approx(before + 1) and page("page.view.zoom") > size
    page.wait(SAVED)


def test_space_ends_with_the_pictures_that_were_labelled_before(used):
    page, _ = used
    for image in ("images/002.png", "images/003.png"):
        page(f"page.edits.add({{ kind: 'edit', image: '{image}', points: {{}}, done: true }})")
    seen = []
    while page("page.hint") != "All pictures are done":
        seen.append(page("page.image"))
        page.press(" ")
        page.wait(f"page.hint === 'All pictures are done' || page.image !== '{seen[-1]}' && {READY}")
    assert seen == [FIRST, NEXT, *(f"images/{i:03d}.png" for i in range(4, 8))]
    page.wait(SAVED)


def test_a_day_of_work(used):
    """Absent, hidden, accepted, undone, redone, done, written."""
    page, server = used
    before = (server.root / "landmarks.csv").read_bytes()
    assert page("at('undo').disabled && at('redo').disabled")
    page("page.select('chin')")
    for key, state in (("1", "placed"), ("2", "hidden but placed"), ("3", "absent"), ("1", "placed")):
        page.press(key)
        assert point(page, "chin")["state"] == state
    assert point(page, "chin")["how"] == "accepted" and point(page, "nasion")["how"] == "predicted"
    page.press("z")
    page.press("z", control=True)
    assert point(page, "chin")["state"] == "hidden but placed"
    page.press("y")
    assert point(page, "chin")["state"] == "absent"
    page.press("i")
    assert "invert(1)" in page("at('canvas').style.filter")
    page.press(" ")  # done: what is proposed is accepted
    page.wait(f"page.image === '{NEXT}' && {READY}")
    assert "invert(1)" in page("at('canvas').style.filter")
    go(page, FIRST)
    page("page.select('nasion')")
    page.press("Backspace")  # nobody has said where it is: the picture is not done
    assert page("page.isDone(page.image)") is False and point(page, "nasion")["how"] == "predicted"
    page.press("z")
    assert page("page.isDone(page.image)") is True
    go(page, NEXT)
    page.press("v")
    page.wait(SAVED)
    page.reload()  # undo goes over pictures, after a reload, too
    page.wait(READY)
    page.press("z")
    page.wait(f"page.image === '{NEXT}' && {READY}")
    page.press("z")
    page.wait(f"page.image === '{FIRST}' && {READY}")
    assert page("page.isDone(page.image)") is None and point(page, "nasion")["how"] == "predicted"
    page.press("y")
    page.wait(SAVED)
    found = on_disk(server)
    assert found.done == {FIRST: True} and found.points[FIRST]["chin"]["state"] == "absent"
    assert found.points[FIRST]["nasion"]["how"] == "accepted"
    page("at('write').click()")
    said = page.wait("at('written').textContent.includes('Train on it') && at('written').textContent")
    assert "1 pictures marked done, 4 as they were labelled before" in said
    out = server.root.parent / f"{server.root.name}_reviewed"
    table = reader.read(out)
    chin = table.landmarks.names.index("chin")
    assert FIRST in table.images and np.isnan(table.xy[table.images.index(FIRST), chin]).all()
    assert (server.root / "landmarks.csv").read_bytes() == before


def test_brightness_contrast_and_gamma_change_what_is_seen_alone(used):
    page, _ = used
    pixels = "page.view.canvas.getContext('2d').getImageData(300, 200, 1, 1).data.join()"
    before = page(pixels)
    for key, shift in (("b", False), ("c", True), ("i", False)):
        page.press(key, shift=shift)
    page("at('gamma').value = 2; at('gamma').dispatchEvent(new Event('input'))")
    assert page("at('canvas').style.filter") == 'invert(1) url("#gamma_filter") brightness(1.1) contrast(0.9)'
    assert page("document.querySelector('#gamma_filter feFuncG').exponent.baseVal") == 0.5
    assert page(pixels) == before  # of the canvas itself, whose filter is the screen's
    page.press("r")
    assert page("at('canvas').style.filter") == "none"


def test_the_first_points_are_placed_by_clicks(used):
    page, server = used
    go(page, "images/002.png")
    names = server.reviewed.names
    assert page("at('hint').textContent") == f"Click where {names[0]} is"
    page.press(" ")
    assert "Place" in page("at('hint').textContent") and page("page.image") == "images/002.png"
    box = page("(() => { const b = at('stage').getBoundingClientRect(); return [b.left, b.top] })()")
    for i in range(3):
        page.click(box[0] + 100 + 40 * i, box[1] + 120)
    for i, name in enumerate(names[:3]):
        x, y = page(f"page.view.toPicture({100 + 40 * i}, 120)")
        found = point(page, name)
        assert (found["x"], found["y"]) == pytest.approx((x, y), abs=0.05)
    assert page("page.selected") == names[3]
    page.press("3")
    assert point(page, names[3])["state"] == "absent" and page("page.selected") == names[4]
    page.press("q")
    page.press("q")
    assert page("page.selected") == names[2]
    page.press("Backspace")
    assert point(page, names[2]) is None
    page.press("x")
    assert page("page.selected") == names[4]


def test_arrows_move_by_1_10_and_a_tenth_of_a_pixel(used):
    page, server = used
    page("page.select('chin')")
    before = point(page, "chin")
    page.press("ArrowRight")
    page.press("ArrowUp", shift=True)
    page.press("ArrowLeft", alt=True)
    found = point(page, "chin")
    assert (found["x"], found["y"]) == pytest.approx((before["x"] + 0.9, before["y"] - 10))
    page.wait(SAVED)
    assert on_disk(server).points[FIRST]["chin"] == found


def test_the_whole_shape_moves_turns_and_scales(used):
    page, server = used

    def shape():
        return np.array([[one["x"], one["y"]] for one in page("Object.values(page.points())")])

    before = shape()
    page.press("t")
    page.press("ArrowDown")
    page.press(".")
    page.press("'")
    angle, middle = np.deg2rad(1), before.mean(0) + [0, 1]
    turn = 1.01 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    expected = (before + [0, 1] - middle) @ turn.T + middle
    np.testing.assert_allclose(shape(), expected, atol=2e-3)
    assert {one["how"] for one in page("Object.values(page.points())")} == {"fitted"}  # hollow: nobody has accepted it
    frame = page("page.drawn.box(page.points())")
    box = page("(() => { const b = at('stage').getBoundingClientRect(); return [b.left, b.top] })()")
    corner = [frame["right"] + box[0], frame["bottom"] + box[1]]
    page.drag(corner, [corner[0] + 30, corner[1] + 30])
    size = np.linalg.norm(shape() - shape().mean(0)) / np.linalg.norm(expected - expected.mean(0))
    centre = page("(([x, y]) => page.view.toScreen(x, y))(middleOf(page.shape.places()))")
    arm = np.array([frame["right"], frame["bottom"]]) - centre
    assert size == pytest.approx(np.linalg.norm(arm + 30) / np.linalg.norm(arm), abs=1e-3)
    page.press("z")
    np.testing.assert_allclose(shape(), expected, atol=2e-3)
    page.press("Escape")
    assert not page("page.shape.isOn")


def test_the_rest_is_fitted_to_what_was_corrected(used, drawn):
    page, server = used
    names, proposed = list(drawn[1]), drawn[2][FIRST] + [3, 0]
    page.press("g")
    assert "Correct two" in page("at('hint').textContent")
    for name, key in (("chin", "ArrowLeft"), ("nasion", "ArrowRight"), ("left_ala", "ArrowDown")):
        page(f"page.select('{name}')")
        page.press(key, shift=True)
    page.press("g")
    page.wait("page.points().right_ala.how === 'fitted'")
    corrected = [names.index(name) for name in ("left_ala", "nasion", "chin")]
    rest = [i for i in range(len(names)) if i not in corrected]
    target = proposed[corrected] + [[0, 10], [10, 0], [-10, 0]]
    found = np.array([[point(page, names[i])[axis] for axis in "xy"] for i in rest])
    np.testing.assert_allclose(found, fitting.moved(proposed[corrected], target, proposed[rest]), atol=2e-3)
    page.press("z")
    assert point(page, "right_ala")["how"] == "predicted"


@pytest.mark.slow
def test_edits_wait_in_the_page_while_the_server_is_gone(browser, folder):
    root, predict = folder
    with serving(root, predict=predict) as server:
        page = browser.page(server.address)
        page.wait(READY)
        go(page, FIRST)
        page("page.select('chin')")
        page.press("ArrowRight")
        page.wait(SAVED)
    page.press("ArrowRight")
    page.press("ArrowRight")
    said = page.wait(
        "!at('trouble').hidden && at('trouble').textContent.includes('2 edits') && at('trouble').textContent"
    )
    assert "The server does not answer. 2 edits are kept here and sent when it is back" in said
    assert page("at('saved').textContent") == "not saved"
    kept = point(page, "chin")
    with serving(root, predict=predict, port=server.port) as again:
        page.wait(SAVED)
        assert on_disk(again).points[FIRST]["chin"] == kept
        ids = [entry["id"] for entry in journal.read(again.path)]
        assert len(ids) == len(set(ids)) == 4  # with the first, that says the landmarks
        page.close()


def test_a_page_with_edits_takes_over_from_the_window_that_the_server_opens(browser, folder):
    """It would send them later, over newer ones."""
    root, predict = folder
    with serving(root, predict=predict) as server:
        page = browser.page(server.address)
        page.wait(READY)
        go(page, FIRST)
        page("page.select('chin')")
    page.press("ArrowRight")
    page.wait("page.outbox.trouble && !page.isAsking")
    page("ask = page.ask.bind(page); page.ask = () => {}")
    with serving(root, predict=predict, port=server.port) as again:
        other = browser.page(again.address)
        other.wait(READY)
        page("void page.outbox.send()")
        page.wait("page.outbox.isLost")
        page("page.ask = ask; void ask()")
        page.wait(SAVED)
        assert on_disk(again).points[FIRST]["chin"] == point(page, "chin")
        other.wait("!at('take_over').hidden")
        other("other = { ...page.points.chin }, page.outbox.add({ kind: 'edit', image: page.image, done: true })")
        other.wait("at('trouble').textContent.includes('1 edit is kept here and sent when this one takes over')")
        other("void page.ask()")
        other.wait("!page.isAsking && !at('take_over').hidden")  # the same server knows it: it has to be told to
        other.close()
        page.close()


def test_edits_that_are_too_long_for_a_request_go_in_several(used, monkeypatch):
    page, server = used
    monkeypatch.setattr(review_server, "MAX_BODY", 3000)
    edit = "{ kind: 'edit', image: page.image, points: { chin: { x: 1, y: 2, state: 'placed', how: 'hand' } } }"
    page(f"page.outbox.sending = true; for (let i = 0; i < 70; i += 1) page.edits.add({edit})")
    page("page.outbox.sending = false; void page.outbox.send()")
    page.wait(f"page.outbox.waiting.length === 0 && {SAVED}")
    assert len(journal.read(server.path)) == 71
    page.forget()  # the browser has reported the refusals, as it should


@pytest.mark.slow
def test_a_page_that_stayed_open_takes_up_the_folder_as_it_has_become(browser, folder):
    """The server is started again with a picture that comes before the others: names and pictures belong together, and
    what was not yet saved is, under the name that was shown."""
    root, predict = folder
    with serving(root, predict=predict) as server:
        page = browser.page(server.address)
        page.wait(READY)
        go(page, NEXT)
        page("page.select('chin')")
    page.press("ArrowRight")
    page.wait("!at('trouble').hidden && page.outbox.waiting.length === 1")
    kept = point(page, "chin")
    Image.new("RGB", (90, 60), "red").save(root / "images/0.png")
    with serving(root, predict=predict, port=server.port) as again:
        assert again.reviewed.images.index(NEXT) == server.reviewed.images.index(NEXT) + 1
        page.wait(f"{SAVED} && page.images.length === 9 && page.image === '{NEXT}' && {READY}")
        page.wait("at('hint').textContent === 'The list of pictures has changed'")
        assert on_disk(again).points == {NEXT: {"chin": kept}} and point(page, "chin") == kept
        for image in (NEXT, "images/0.png", FIRST, NEXT):
            expected = np.asarray(Image.open(root / image).convert("RGB"))
            go(page, image)
            script = f"""(() => {{ const {{ bitmap }} = page.view, {{ width, height }} = bitmap;
                const context = new OffscreenCanvas(width, height).getContext("2d"); context.drawImage(bitmap, 0, 0);
                return [width, height, ...context.getImageData(0, {len(expected) // 2}, width, 1).data] }})()"""
            width, height, *row = page(script)
            assert (height, width) == expected.shape[:2]
            np.testing.assert_array_equal(np.reshape(row, (-1, 4))[:, :3], expected[height // 2])
            proposed = predict(image).get("nasion")
            assert (point(page, "nasion") or {}).get("x") == (proposed and proposed["x"])
        page.close()


def test_an_edit_while_the_page_is_opened_anew_stays_in_it(browser, folder):
    """Between the request and the answer, which does not have it yet; and one request is enough."""
    root, predict = folder
    with serving(root, predict=predict) as server:
        page = browser.page(server.address)
        page.wait(READY)
        go(page, FIRST)
        page("page.select('chin')")
    page("""opened = 0; answer = () => {}; const open = page.server.open.bind(page.server);
        page.server.open = async (take) => {
          opened += 1;
          const found = await open(take);
          await new Promise((go) => { answer = go; isHeld = true; });
          return found;
        }; isHeld = false""")
    with serving(root, predict=predict, port=server.port) as again:
        page.wait("isHeld")
        page.press("ArrowRight")
        kept = point(page, "chin")
        page("void page.ask(); void page.ask()")
        page.wait("!page.outbox.sending")
        page("answer()")
        page.wait(f"{SAVED} && {READY}")
        assert point(page, "chin") == kept == on_disk(again).points[FIRST]["chin"]
        assert page("opened") == 1
        page.close()


def test_keys_do_nothing_to_a_picture_that_is_not_shown_yet(used):
    page, _ = used
    page("page.select('chin')")
    page.press("1")
    page("page.server.picture = () => new Promise(() => {}); page.pictures.loaded.clear()")
    page.press("d")
    page.wait(f"page.image === '{NEXT}' && page.pictures.proposed.has(page.index)")
    page("page.select('chin')")
    for key in ("ArrowRight", "1", "2", "3", "v", " ", "t", "ArrowDown", ".", "'"):
        page.press(key)
    page.press(" ", shift=True)
    assert page("[...page.review.points.keys(), ...page.review.done.keys()]") == [FIRST]
    assert page("page.image") == NEXT and page("page.selected") == "chin"
    page.press("z")
    assert page("page.image") == FIRST and point(page, "chin")["how"] == "predicted"
    page("delete page.server.picture; page.pictures.loaded.clear()")
    go(page, FIRST)
    page("page.select('chin')")
    page.press("1")
    assert point(page, "chin")["how"] == "accepted"


def test_a_full_disk_is_said_until_there_is_room(used, monkeypatch):
    page, server = used

    def full(self, lines):
        raise OSError(28, "No space left on device", str(self.path))

    page("page.select('chin')")
    monkeypatch.setattr(journal.Journal, "_write", full)
    page.press("1")
    page.wait("at('trouble').textContent.includes('Not saved') && at('trouble').textContent.includes('No space left')")
    page("page.outbox.ping()")
    assert not page("at('trouble').hidden") and FIRST not in on_disk(server).points
    monkeypatch.undo()
    page.wait(SAVED)
    assert on_disk(server).points[FIRST]["chin"]["how"] == "accepted"
    page.forget()  # the browser has reported the refusals, as it should


@pytest.mark.slow
def test_two_windows_on_one_rater(used, browser):
    page, server = used
    other = browser.page(server.address)
    other.wait("!at('trouble').hidden && !at('take_over').hidden")
    assert "open in another window" in other("at('trouble').textContent")
    other("at('take_over').click()")
    other.wait(READY)
    go(other, FIRST)
    page("page.outbox.ping()")
    page.wait("!at('take_over').hidden")
    page("page.select('chin')")
    page.press("3")  # is refused here, and no edit waits
    assert point(page, "chin")["state"] == "placed" and page("page.outbox.waiting.length") == 0
    other("page.select('chin')")
    other.press("3")
    other.wait(SAVED)
    page("at('take_over').click()")
    page.wait(f"{SAVED} && {READY} && page.points().chin.state === 'absent'")
    assert [entry for entry in page.complaints() if "409" not in entry] == []
    page("page.select('chin')")
    page.press("1")
    page.wait(SAVED)
    page("page.ask = () => {}; dispatchEvent(new Event('pagehide'))")  # as when it is closed: the other goes on
    other.wait(f"{SAVED} && {READY} && page.points().chin.state === 'placed'")
    page.forget()  # the browser has reported the refusals, as it should
    other.close()


def test_no_request_leaves_this_machine(used):
    page, server = used
    page.press("d")
    page.wait(READY)
    asked = page.requests()
    assert len(asked) > 4
    assert [one for one in asked if not one.startswith((f"http://127.0.0.1:{server.port}/", "data:", "blob:"))] == []


def test_names_are_no_part_of_the_page(browser, tmp_path):
    name = '"><img src=x onerror="document.title = 1">'
    (tmp_path / "p").mkdir()
    image = "<img src=x onerror=document.title=1> &amp; 'ä'.png"
    Image.new("RGB", (20, 20)).save(tmp_path / "p" / image)
    with serving(tmp_path / "p", names=[name, "constructor", "__proto__"]) as server:
        page = browser.page(server.address)
        page.wait(READY)
        assert page("at('picture_name').textContent") == image and page("document.images.length") == 0
        box = page("(() => { const b = at('stage').getBoundingClientRect(); return [b.left + 300, b.top + 200] })()")
        page.click(*box)
        page.wait(SAVED)
        assert page("document.title") == "p · anna" and page("document.images.length") == 0
        assert list(on_disk(server).points[image]) == [name]
        page.close()


def test_a_finger_drags_a_handle_beside_the_point(used):
    page, server = used
    hold(page)
    x, y = place(page, "chin")
    page.touch("touchStart", (x, y))
    page.touch("touchEnd")
    page.wait("page.selected === 'chin' && page.pointers.onTouch")
    before, size = point(page, "chin"), page("page.view.zoom")
    assert page("getComputedStyle(document.querySelector('.touched .handle')).display") != "none"
    page.touch("touchStart", (x, y + 64))
    for step in range(1, 5):
        page.touch("touchMove", (x - 5 * step, y + 64 - 3 * step))
    assert not page("at('loupe').hidden")
    page.touch("touchEnd")
    found = page.wait("!page.pointers.moving && page.points().chin")
    assert found["x"] == pytest.approx(before["x"] - 20 / size, abs=0.05)
    assert found["y"] == pytest.approx(before["y"] - 12 / size, abs=0.05)


def test_two_fingers_zoom(used):
    page, _ = used
    hold(page)
    size, box = page("page.view.zoom"), page("at('stage').getBoundingClientRect().top")
    before = page(f"page.view.toPicture(195, 300 - {box})")
    page.touch("touchStart", (175, 300), (215, 300))
    page.touch("touchMove", (165, 300), (225, 300))  # the browser may keep back a first short move
    page.touch("touchMove", (155, 300), (235, 300))
    page.wait(f"Math.abs(page.view.zoom / {size} - 2) < 0.02")
    page.touch("touchEnd")
    np.testing.assert_allclose(page(f"page.view.toPicture(195, 300 - {box})"), before, atol=0.5)
    assert page("page.outbox.waiting.length") == 0


@pytest.mark.parametrize(("width", "height", "phone"), [(390, 844, True), (820, 1180, True), (1300, 850, False)])
def test_nothing_is_cut_off_at_any_width(used, width, height, phone):
    page, _ = used
    page.size(width, height, phone=phone)
    page.wait(f"innerWidth === {width}")
    assert page("document.documentElement.scrollWidth") <= width
    outside = """[...document.querySelectorAll("header *, footer *, #stage")].filter(one => {
        const b = one.getBoundingClientRect(); return b.width && (b.right > innerWidth + 1 || b.left < -1) }).length"""
    assert page(outside) == 0
    if phone and width < 800:
        page("at('show_panel').click()")
        page.wait("at('panel').getBoundingClientRect().right <= innerWidth + 1")


def test_points_have_names_for_those_who_hear_the_page(used):
    page, _ = used
    page("page.select('chin')")
    page.press("2")
    label = "document.querySelector('[data-name=chin]').getAttribute('aria-label')"
    found = point(page, "chin")
    assert page(label) == f"chin, hidden but placed, at {found['x']:.1f}, {found['y']:.1f}"
    assert "proposed, not accepted" in page(label.replace("chin", "nasion"))
    without = """[...document.querySelectorAll("button, input")].filter(one =>
        !one.getAttribute("aria-label") && !one.textContent.trim() && !one.closest("label")).length"""
    assert page(without) == 0
    page.press("?")
    keys = page("[...document.querySelectorAll('#keys kbd')].map(one => one.textContent)")
    assert page("at('help').open") and {"d", "Space", "1", "2", "3", "z", "y", "g", "t"} <= set(keys)
    page.press("?")
    assert not page("at('help').open")


def test_dark_where_the_reader_asks_for_it(used):
    page, _ = used
    colours = []
    for dark in (False, True):
        page.size(1200, 800, dark=dark)
        colours.append(page("getComputedStyle(document.body).backgroundColor"))
    assert colours == ["rgb(255, 255, 255)", "rgb(23, 25, 28)"]


@pytest.mark.slow
def test_a_large_picture_comes_scaled_first_then_what_is_seen_of_it_sharp(browser, tmp_path):
    """A pixel of the screen is that of the picture, on both sides of the edge between two parts, while no more parts
    than are seen have been asked for."""
    values = np.random.default_rng(0).integers(0, 256, (2400, 5000, 3), np.uint8)
    (tmp_path / "p").mkdir()
    Image.fromarray(values).save(tmp_path / "p/large.png", compress_level=0)
    with serving(tmp_path / "p", names=["a"]) as server:
        page = browser.page(server.address)
        page.wait(READY)
        assert page("[page.view.width, page.view.height, page.view.bitmap.width]") == [5000, 2400, 2048]
        assert [one for one in page.requests() if "/api/tile/" in one] == []
        for x, y, beside in ((1023, 1023, 0.4), (1024, 1024, -0.4), (2500, 1023, 0.4)):
            page(f"""(() => {{ const v = page.view; v.zoomAt(0, 0, 6);
                const [sx, sy] = v.toScreen({x + beside}, {y + beside});
                v.pan(300 - sx, 200 - sy); v.draw() }})()""")
            page.wait("page.view.tiles.loading.size === 0")
            script = "[...page.view.canvas.getContext('2d').getImageData(300, 200, 1, 1).data].slice(0, 3)"
            assert page(script) == values[y, x].tolist()
        asked = {one.partition("/api/tile/")[2] for one in page.requests() if "/api/tile/" in one}
        assert asked == {f"1/{place}?image=large.png" for place in ("0/0", "1/0", "0/1", "1/1", "2/0", "2/1")}
        page.close()


def test_lines_and_measurements_follow_the_points(used):
    page, server = used
    ends = "document.querySelector('.lines path').getAttribute('d').match(/[-.0-9]+/g).map(Number)"
    values = "[...document.querySelectorAll('#measured_list output')].map(one => one.textContent)"
    before, said = page(ends), page(values)
    places = [
        page(f"page.view.toScreen(page.points().{name}.x, page.points().{name}.y)")
        for pair in SKELETON
        for name in pair
    ]
    np.testing.assert_allclose(np.reshape(before, (4, 2)), places, atol=1e-9)
    nasion, chin = (np.array([point(page, name)[axis] for axis in "xy"]) for name in ("nasion", "chin"))
    assert said[0] == f"{np.hypot(*(nasion - chin)):.1f} px" and said[1].endswith("°")
    x, y = place(page, "chin")
    page.mouse("mouseMoved", x, y)
    page.mouse("mousePressed", x, y)
    page.mouse("mouseMoved", x, y + 30, button="left", buttons=1)  # while it is dragged
    chin = chin + [0, 30 / page("page.view.zoom")]
    assert page(values)[0] == f"{np.hypot(*(nasion - chin)):.1f} px" != said[0]
    assert page(ends)[7] == pytest.approx(before[7] + 30, abs=0.01)
    page.mouse("mouseReleased", x, y + 30)
    page("page.select('chin')")
    page.press("3")
    assert page(values)[0] == "–" and page("at('measured_list').firstChild.title") == "chin is missing"
    assert len(page(ends)) == 4
    page.press("l")
    assert page("document.querySelector('.lines path').getAttribute('d')") == "" and not page("at('lines').checked")


def test_measurements_are_those_of_the_evaluation(used):
    """Every form of a definition, at places of all kinds: the same numbers, units, classes and reasons as in Python."""
    page, _ = used
    names = tuple("abcdefg")
    midpoint, foot = {"midpoint": ["a", "b"]}, {"projection": ["c", "a", "b"]}
    made = [{"intersection": ["a", "b", "c", "d"]}, {"circle_centre": ["a", "b", "c"]}, {"circle_centre": list(names)}]
    given = {
        "length": ["a", "b"], "corner": ["a", "b", "c"], "signed": {"signed_angle": ["a", "b", "c"]},
        "told": {"signed_angle": ["a", "b", "c"], "negative_side": "d"},
        "lines": {"angle_of_lines": ["a", "b", "c", "d"]},
        "off": {"distance_to_line": ["c", "a", "b"], "positive_side": midpoint},
        "off2": {"distance_to_line": ["c", "a", "b"], "positive_side": "e"},
        "along": {"distance_along": ["a", "b", "c", "d"]},
        "across": {"distance_across": ["a", "b", "c", "d"], "positive_side": foot},
        "inside": {"area": list("abcd")}, "around": {"perimeter": list("abcde")}, "round": {"circularity": list("abc")},
        **{f"made {i}": ["g", one] for i, one in enumerate(made)}, "deep": ["g", {"midpoint": [made[0], foot]}],
        "share": {"ratio": ["length", "along"]}, "less": {"difference": ["length", "around"]},
        "all": {"sum": ["length", "along", "off2"]},
        "middle": {"mean": ["corner", "lines"], "classes": {"low": [None, 60], "mid": [60, 90], "high": [90, None]}},
        "turns": {"mean": ["signed", "told"]}, "apart": {"difference": ["told", "signed"]},
        "here": {"signed_angle": ["d", "e", "f"]}, "there": {"signed_angle": ["e", "g", "c"]},
        "three": {"mean": ["signed", "here", "there"]},
        "beyond": {"sum": ["signed", "told"]}, "half": {"mean": ["beyond", "told"]},
        "size": {"distance": ["a", "c"], "classes": {"short": [None, 30], "long": [30, None]}},
    }  # fmt: skip
    parsed = definitions.parse(given, names, "test")
    chance = np.random.default_rng(1)
    xy = chance.uniform(0, 99, (60, 7, 2))
    xy[1, 1] = xy[1, 0]  # two points at one place
    xy[2] = xy[2, 0] + np.arange(7)[:, None] * [3, 1]  # all on one line
    xy[3, 4] = np.nan
    xy[4, 3] = xy[4, 2] + xy[4, 1] - xy[4, 0]  # parallel lines
    xy[5, :4] = [[0, 0], [9, 9], [9, 0], [0, 9]]  # an outline that crosses itself
    xy[6, 4] = xy[6, :2].mean(0)
    spacing = np.where(np.arange(60)[:, None] % 2, [0.2, 0.3], np.nan)
    expected, units = measurements.evaluate(parsed, names, xy, spacing), measurements.units(parsed, spacing)
    classes = [measurements.classes(one, expected.value[:, m], units[:, m]) for m, one in enumerate(parsed)]
    sent = [{"name": one.name, "quantity": one.quantity, "definition": one.definition} for one in parsed]
    for n in range(60):
        points = {name: {"x": x, "y": y, "state": "placed"} if np.isfinite(x) else None for name, (x, y) in
                  zip(names, xy[n].tolist(), strict=True)}  # fmt: skip
        mm = None if np.isnan(spacing[n, 0]) else spacing[n].tolist()
        found = page(f"new Measurements({json.dumps(sent)}, {json.dumps(mm)}).of({json.dumps(points)})")
        values = np.array([np.nan if one["value"] is None else one["value"] for one in found])
        np.testing.assert_allclose(values, expected.value[n], rtol=1e-9, atol=1e-9)
        assert [one["reason"] for one in found] == expected.reason[n].tolist()
        assert [one["unit"] for one in found] == units[n].tolist()
        assert [one["group"] for one in found] == [one[n] for one in classes]
    assert len({reason for reason in expected.reason.ravel()}) > 12 and np.isfinite(expected.value).mean() > 0.8


def test_the_list_is_in_its_order_and_says_what_is_random(browser, folder):
    root, predict = folder
    images = [f"images/{number:03d}.png" for number in (2, 0, 3, 1)]
    order = {"id": "o", "kind": "order", "run": hashlib.sha256(b"random").hexdigest()[:16], "sign": "radius"}
    order |= {"images": images, "random": [images[0]]}
    path = journal.path_of(root, "anna")
    path.parent.mkdir()
    path.write_text(json.dumps(order) + "\n")
    with serving(root, predict=predict, order=sorting.RANDOM) as server:
        page = browser.page(server.address)
        page.wait(READY)
        assert page("page.image") == images[0]  # the first of the list, and not that of the folder
        listed = "[...document.querySelectorAll('#picture_list button')].map(one => one.getAttribute('aria-label'))"
        labelled = [f"images/{number:03d}.png, labelled before" for number in range(4, 8)]
        assert page(listed) == [
            f"{images[0]}, not done, random",
            *(f"{one}, not done" for one in images[1:]),
            *labelled,
        ]
        assert page("at('progress').textContent").startswith("1 of 8")
        assert page("[at('before').disabled, at('next').disabled]") == [True, False]
        assert page("at('order').textContent") == "In random order, first one picture of everybody"
        seen = []
        for _ in range(4):
            seen.append(page("page.image"))
            page.press("d")
            page.wait(READY)
        assert seen == images
        go(page, images[1])
        page.press(" ")  # done, and on to the next that is not
        page.wait(f"page.image === '{images[2]}' && {READY}")
        page("page.go(page.order.sequence[7])")
        page.wait(f"page.image === 'images/007.png' && {READY}")
        assert page("[at('before').disabled, at('next').disabled]") == [False, True]
        page.close()


def test_the_picture_that_is_open_stays_when_the_list_is_sorted(used):
    page, server = used
    page("page.select('chin')")
    names = json.dumps(["images/003.png", FIRST])
    page(f"page.order.take({{said: 'sorted', ready: true, images: {names}, random: ['{FIRST}']}}); page.redraw()")
    assert page("[page.image, page.selected, at('progress').textContent.slice(0, 6)]") == [FIRST, "chin", "2 of 8"]
    current = "document.querySelector('#picture_list [aria-current=true]').getAttribute('aria-label')"
    assert page(current) == f"{FIRST}, not done, random"


def test_a_page_in_one_file_is_sent_and_comes_back(browser, folder, tmp_path):
    """Points are placed in a file without a server, kept by the browser, saved, loaded, and taken by the lab."""
    root, predict = folder
    out = tmp_path / "mailed.html"
    portable.write(reviewed_folder.read(root), predict, out, 100)
    page = browser.page(out.as_uri())
    page.size(1200, 800)
    page.wait(READY)
    assert page("[page.view.width, page.view.bitmap.width, page.images.length]") == [160, 100, 8]
    assert page("at('write').offsetParent === null && at('save').offsetParent !== null")
    index = reviewed_folder.read(root).images.index(FIRST)
    page(f"page.go({index})")
    page.wait(f"page.index === {index} && {READY}")
    assert page("[page.image.slice(5), page.labelled.size, document.title]") == [f"-{index + 1}", 0, "mailed"]
    assert point(page, "chin")["how"] == "predicted"
    zoom(page, "chin", 3)
    before, (x, y) = point(page, "chin"), place(page, "chin")
    page.drag((x, y), (x - 30, y - 60))
    page("page.select('nasion')")
    page.press("3")
    page("page.select('left_ala')")
    page.press("2")
    page.press(" ")
    page.wait(f"page.index !== {index} && {READY}")
    page.reload()
    page.wait(f"{READY} && at('saved').textContent === 'kept in this browser'")
    assert page(f"page.isDone(page.images[{index}])") is True
    page.downloads(tmp_path)
    page("at('save').click()")
    saved = tmp_path / "mailed_points.csv"
    page.wait("at('written').textContent.startsWith('mailed_points.csv')")
    until = time.monotonic() + 30
    while not saved.exists() and time.monotonic() < until:
        time.sleep(0.05)
    page("localStorage.clear()")
    page.reload()
    page.wait(READY)
    assert page(f"page.isDone(page.images[{index}])") is None
    page.choose("#csv", saved)
    page.wait("at('written').textContent === '1 pictures have changed.'")
    page.choose("#csv", saved)  # it is so already
    page.wait("at('written').textContent === '0 pictures have changed.'")
    page("page.edits.undo()")
    page.wait(READY)
    assert page(f"page.isDone(page.images[{index}])") is None
    page("page.edits.redo()")
    page.wait("at('saved').textContent === 'kept in this browser'")
    asked = [one for one in page.requests() if not one.startswith((out.as_uri(), "blob:", "data:"))]
    assert asked == [] and page.complaints() == []
    said, entries = mailed.read(saved, portable.key_of(out), root)
    found = Review(entries)
    assert found.done == {FIRST: True} and set(found.points) == {FIRST}
    chin = found.points[FIRST]["chin"]
    assert [chin["x"], chin["y"]] == pytest.approx([before["x"] - 10, before["y"] - 20], abs=0.05)
    assert found.points[FIRST]["nasion"]["state"] == "absent"
    assert found.points[FIRST]["left_ala"]["state"] == "hidden but placed"
    accepted, proposed = found.points[FIRST]["right_ala"], predict(FIRST)["right_ala"]
    assert [accepted["x"], accepted["y"]] == pytest.approx([proposed["x"], proposed["y"]], abs=1e-3)
    page("Storage.prototype.setItem = () => { throw new Error('full') }")
    page("page.select('chin')")
    page.press("ArrowRight")
    page.wait("at('trouble').textContent.includes('save the csv before you close it')")
    page.close()


def test_a_csv_file_that_a_spreadsheet_has_changed_is_taken_and_another_is_not(used):
    page, _ = used
    text = page("csvOf(page)").replace(",", ";")
    row = next(line for line in text.splitlines() if line.startswith(FIRST))
    changed = row.replace(f"{FIRST};;;;", f'"{FIRST}";1;12,5;7;placed', 1).removesuffix(";")
    assert page(f"takeCsv({json.dumps(text.replace(row, changed))}, page)") == 1
    first = page("page.landmarks[0]")
    assert point(page, first) == {"x": 12.5, "y": 7, "state": "placed", "how": "hand"}
    assert page("page.isDone(page.image)") is True
    for other in ("", "image,x,y\na.png,1,2\n", text.replace(FIRST, "other.png")):
        script = (
            f"(() => {{ try {{ takeCsv({json.dumps(other)}, page) }} catch (error) {{ return error.message }} }})()"
        )
        assert page(script) == "This is no file that this page has saved."


@pytest.mark.slow
def test_the_page_and_the_server_add_up_alike(used):
    """Random edits, undo and redo: the page's replay of the journal is that of Python."""
    page, server = used
    chance, names = np.random.default_rng(0), server.reviewed.names[:4]
    script = []
    for _ in range(120):
        kind = chance.choice(["edit", "edit", "undo", "redo"])
        edit = {"kind": str(kind)}
        if kind == "edit":
            value = {"x": float(chance.uniform(0, 9)), "y": 1, "state": "placed", "how": "hand"}
            chosen = {str(chance.choice(names)): value if chance.random() < 0.8 else None}
            edit |= {"image": str(chance.choice([FIRST, NEXT])), "points": chosen}
            edit |= {"done": bool(chance.random() < 0.5)} if chance.random() < 0.3 else {}
        script.append(f"page.edits.add({json.dumps(edit)})")
    page(";".join(script))
    page.wait(SAVED)
    found = on_disk(server)
    assert len(journal.read(server.path)) == 121
    said = page("[Object.fromEntries(page.review.points), Object.fromEntries(page.review.done)]")
    assert said == [found.points, found.done]
    page.reload()
    page.wait(READY)
    assert page("[Object.fromEntries(page.review.points), Object.fromEntries(page.review.done)]") == said
    assert pathlib.Path(server.path).read_text().count("\n") == 121
