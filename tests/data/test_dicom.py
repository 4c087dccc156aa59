"""DICOM files: values by hand from PS3.3 C.11, and the files that ship with pydicom."""

import dataclasses
import sys

import numpy as np
import pytest
from dicom_files import PEOPLE, content, dataset, identities, written
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array
from pydicom.uid import JPEG2000Lossless, RLELossless

from configs import default
from ctd_jax import data
from ctd_jax.data import builder, dicom, pictures, points
from ctd_jax.errors import UserError

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)
CODINGS = ("", "_RLE", "_jp2klossless", "_jpeg_ls_lossless", "_bigendian", "_implicit")  # of MR_small


def shipped(name):
    with open(get_testdata_file(name, download=False), "rb") as file:
        return file.read()


def values(**elements):
    return pictures.read(content(RAMP, bits=12, **elements), "a.dcm").values


def test_twelve_bits_are_values_until_a_range_is_known():
    np.testing.assert_array_equal(values(), RAMP)
    seen = pictures.decode(content(RAMP, bits=12), "a.dcm", {"integer": (0.0, 4095.0)})
    assert seen.shape == (64, 64, 3) and seen.dtype == np.uint8
    np.testing.assert_array_equal(seen[..., 1], np.rint(RAMP / 4095 * 255))


def test_the_same_value_is_the_same_grey_in_pictures_of_other_maxima():
    """Two 12-bit pictures of maxima 2040 and 2100."""
    first, second = np.minimum(RAMP, 2040), np.minimum(RAMP, 2100)
    grey = {"integer": (0.0, 4095.0)}
    a, b = (pictures.decode(content(one, bits=12), "a.dcm", grey) for one in (first, second))
    np.testing.assert_array_equal(a.ravel()[: 3 * 2041], b.ravel()[: 3 * 2041])


def test_linear_window():
    """PS3.3 C.11.2.1.2.1: black up to c - 0.5 - (w - 1) / 2, white above c - 0.5 + (w - 1) / 2, else
    ((x - (c - 0.5)) / (w - 1) + 0.5) * 255."""
    x = RAMP.astype(float)
    want = np.clip(((x - 999.5) / 999 + 0.5) * 255, 0, 255)
    found = values(WindowCenter=1000, WindowWidth=1000)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found, want, atol=0.5 + 1e-9)


def test_of_several_windows_the_first_counts():
    np.testing.assert_array_equal(
        values(WindowCenter=[1000, 300], WindowWidth=[1000, 50]), values(WindowCenter=1000, WindowWidth=1000)
    )


def test_sigmoid_and_exact_windows():
    """PS3.3 C.11.2.1.3."""
    x = RAMP.astype(float)
    found = values(WindowCenter=2000, WindowWidth=1000, VOILUTFunction="SIGMOID")
    np.testing.assert_allclose(found, 255 / (1 + np.exp(-4 * (x - 2000) / 1000)), atol=0.5 + 1e-9)
    found = values(WindowCenter=2000, WindowWidth=1000, VOILUTFunction="LINEAR_EXACT")
    np.testing.assert_allclose(found, np.clip(((x - 2000) / 1000 + 0.5) * 255, 0, 255), atol=0.5 + 1e-9)


def test_a_window_after_rescaling():
    """Hounsfield units: the window is of rescaled values."""
    x = RAMP.astype(float) - 1024
    found = values(RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400)
    np.testing.assert_allclose(found, np.clip(((x - 39.5) / 399 + 0.5) * 255, 0, 255), atol=0.5 + 1e-9)


@pytest.mark.parametrize(("slope", "intercept", "kind"), [(2, -1000, "i"), (0.5, 0, "f"), (1, 0, "u")])
def test_rescaling(slope, intercept, kind):
    found = values(RescaleSlope=slope, RescaleIntercept=intercept)
    assert found.dtype.kind == kind
    np.testing.assert_array_equal(found, RAMP.astype(float) * slope + intercept)


def test_signed_values():
    stored = (RAMP.astype(np.int16) - 2000).astype(np.int16)
    np.testing.assert_array_equal(pictures.read(content(stored), "a.dcm").values, stored)


def table(numbers, first=0, bits=8):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(numbers), first, bits])
    item.add_new("LUTData", "US", list(numbers))
    item.LUTExplanation = PEOPLE["ImageComments"]
    return [item]


def test_tables_of_modality_and_of_interest():
    """A table of ten entries from 100 on: below and beyond it its first and its last one."""
    numbers = [250, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    want = np.array(numbers)[np.clip(RAMP.astype(int) - 100, 0, 9)]
    np.testing.assert_array_equal(values(ModalityLUTSequence=table(numbers, 100)), want)
    np.testing.assert_array_equal(values(VOILUTSequence=table(numbers, 100)), want)
    numbers = RAMP.ravel() >> 4  # a table of 12 bits to 8, with more entries than 8 bits can count
    np.testing.assert_array_equal(values(VOILUTSequence=table(numbers.tolist())).ravel(), numbers)
    packed = table(numbers.tolist())
    packed[0].add_new("LUTData", "OW", numbers.astype("<u2").tobytes())
    np.testing.assert_array_equal(values(VOILUTSequence=packed).ravel(), numbers)
    deep = values(VOILUTSequence=table([0, 1023, 512], 7, bits=10))
    np.testing.assert_array_equal(deep, np.array([0, 255, 128])[np.clip(RAMP.astype(int) - 7, 0, 2)])


def test_a_negative_is_inverted():
    """MONOCHROME1: the least value is white; with and without a window."""
    grey = {"integer": (0.0, 4095.0)}
    for window in ({}, {"WindowCenter": 2048, "WindowWidth": 4096}):
        plain = pictures.decode(content(RAMP, bits=12, **window), "a.dcm", grey)
        negative = content(RAMP, bits=12, PhotometricInterpretation="MONOCHROME1", **window)
        np.testing.assert_array_equal(pictures.decode(negative, "a.dcm", grey), 255 - plain)
        assert plain.min() == 0 and plain.max() == 255


def test_eight_bits_are_seen_as_they_are():
    stored = (RAMP % 256).astype(np.uint8)
    np.testing.assert_array_equal(pictures.decode(content(stored), "a.dcm")[..., 0], stored)


def test_colour():
    stored = np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)
    np.testing.assert_array_equal(pictures.decode(content(stored), "a.dcm"), stored)


@pytest.mark.parametrize("name", ["SC_rgb_dcmtk_+eb+cy+np", "SC_rgb_jpeg_dcmtk", "SC_ybr_full_422_uncompressed"])
def test_other_colours_become_rgb(name):
    """Bars of red, green, blue, cyan, ... in ten rows each: the first is pure red (pydicom's README)."""
    found = pictures.decode(shipped(f"{name}.dcm"), "a.dcm").astype(int)
    np.testing.assert_allclose(found[5, 50], (255, 0, 0), atol=5)
    np.testing.assert_allclose(found[25, 50], (0, 255, 0), atol=5)
    np.testing.assert_allclose(found[45, 50], (0, 0, 255), atol=5)


@pytest.mark.slow
def test_a_palette():
    found = pictures.decode(shipped("examples_palette.dcm"), "a.dcm")
    assert found.shape == (350, 800, 3)
    assert len(np.unique(found.reshape(-1, 3), axis=0)) > 10


@pytest.mark.parametrize("coding", CODINGS)
def test_all_codings_of_a_picture_are_the_same(coding):
    """One picture of pydicom's; its stored values under its window 600, 1600."""
    stored = pixel_array(get_testdata_file("MR_small.dcm", download=False)).astype(float)
    found = pictures.read(shipped(f"MR_small{coding}.dcm"), "a.dcm").values
    np.testing.assert_allclose(found, np.clip(((stored - 599.5) / 1599 + 0.5) * 255, 0, 255), atol=0.5 + 1e-9)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_what_is_compressed_here_is_read(syntax):
    one = dataset(RAMP, bits=12)
    one.compress(syntax)
    np.testing.assert_array_equal(pictures.read(written(one), "a.dcm").values, RAMP)


def test_lossless_jpeg():
    found = pictures.decode(shipped("SC_rgb_jpeg_gdcm.dcm"), "a.dcm").astype(int)
    np.testing.assert_array_equal(found[[5, 25, 45], 50], [(255, 0, 0), (0, 255, 0), (0, 0, 255)])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: content(RAMP, NumberOfFrames=3), "3 frames; expected one picture"),
        (lambda: content(RAMP, PixelData=None), "without pixel data; expected one with a picture"),
        (lambda: content(RAMP)[:-4000], "can't be decoded: the file is damaged"),
        (lambda: content(RAMP)[:700], "without pixel data"),
        (lambda: b"", "expected DICM at byte 128, found something else"),
        (lambda: b"<html>" * 100, "expected DICM at byte 128"),
        (lambda: b"0\x82\x04\xa8\x06\t*\x86H\x86\xf7\r\x01\x07\x03" * 99, "damaged, encrypted, or of another kind"),
        (lambda: content(RAMP.astype(np.uint32)), "32 bits (in 32); expected 8 to 16"),
        (lambda: content(RAMP, bits=4), "4 bits (in 16); expected 8 to 16"),
        (lambda: content(RAMP, WindowCenter=5, WindowWidth=0), "the window has the width 0.0; expected 1 or more"),
        (lambda: content(RAMP, RescaleSlope=0, RescaleIntercept=0), "Rescale Slope and Intercept are 0.0 and 0.0"),
        (lambda: content(RAMP, Rows=60000, Columns=60000), "60000 x 60000 pixels; expected 80,000,000 at most"),
        (lambda: content(RAMP, Rows=0), "64 x 0 pixels"),
        (lambda: content(RAMP, BitsStored=None), "its size or its bits are missing"),
        (lambda: shipped("rtplan.dcm"), "without pixel data"),
        (lambda: shipped("MR_truncated.dcm"), "can't be decoded"),
        (lambda: shipped("JPGExtended.dcm"), "coded by JPEG Extended (Process 2 and 4), can't be decoded"),
        (lambda: shipped("meta_missing_tsyntax.dcm"), "how its pixels are coded (Transfer Syntax UID)"),
    ],
)  # fmt: skip
def test_what_can_not_be_read_is_named(make, words):
    with pytest.raises(UserError) as caught:
        pictures.decode(make(), "folder/a.dcm")
    message = str(caught.value)
    assert message.startswith("folder/a.dcm: ") and words in message
    assert "\n" not in message
    for identity in PEOPLE.values():
        assert identity not in message


@pytest.mark.parametrize(("syntax", "called"), [
    (b"1.2.840.10008.1.2.4.100", "MPEG2 Main Profile / Main Level"),
    (b"1.2.840.10008.1.2.4.999", "a transfer syntax that the standard does not list"),
])  # fmt: skip
def test_a_coding_that_nothing_decodes(syntax, called):
    one = dataset(RAMP)
    one.compress(JPEG2000Lossless)
    whole = written(one).replace(b"\x16\0" + JPEG2000Lossless.encode(), b"\x18\0" + syntax + b"\0")
    with pytest.raises(UserError) as caught:
        pictures.decode(whole, "a.dcm")
    assert f"coded by {called}, which nothing installed decodes" in str(caught.value)


def test_a_file_cut_anywhere_is_one_message():
    whole = content(RAMP, bits=12, WindowCenter=1000, WindowWidth=1000)
    for length in range(0, len(whole) - 1, 97):
        with pytest.raises(UserError) as caught:
            pictures.decode(whole[:length], "a.dcm")
        assert not [identity for identity in PEOPLE.values() if identity in str(caught.value)]


@pytest.mark.parametrize("syntax", [None, RLELossless])
def test_damaged_bytes_are_no_other_error(syntax):
    one = dataset(
        RAMP[:16, :16], bits=12, WindowCenter=[1000, 3], WindowWidth=[1000, 4], RescaleSlope=2, RescaleIntercept=1
    )
    if syntax:
        one.compress(syntax)
    whole, rng, refused = np.frombuffer(written(one), np.uint8), np.random.default_rng(0), 0
    for _ in range(100):
        damaged = whole.copy()
        damaged[rng.integers(0, len(whole), 5)] = rng.integers(0, 256, 5)
        for use in (pictures.decode, dicom.without_header):
            try:
                use(damaged.tobytes(), "a.dcm")
            except UserError as error:
                refused += 1
                assert not [identity for identity in PEOPLE.values() if identity in str(error)]
    assert 10 < refused < 190


def test_what_is_kept_has_nothing_of_the_header():
    one = dataset(RAMP, bits=12, VOILUTSequence=table(range(256)), RescaleSlope=2, RescaleIntercept=-5)
    whole = written(one)
    kept = dicom.without_header(whole, "a.dcm")
    there, left = ([text for text in identities(one) if text.encode() in content] for content in (whole, kept))
    assert len(there) >= len(PEOPLE) and left == []
    before, after = (pictures.read(content, "a.dcm") for content in (whole, kept))
    np.testing.assert_array_equal(before.values, after.values)
    assert dataclasses.replace(before, values=after.values) == after


@pytest.fixture
def folder(landmark_folder):
    """A landmark folder whose pictures are DICOM files of 12 bits, 48 x 48; the k-th of maximum 2040 + k."""
    root = landmark_folder(size=48)
    lines = (root / "landmarks.csv").read_text()
    for k, path in enumerate(sorted((root / "images").glob("*.png"))):
        stored = np.rint(np.linspace(0, 2040 + k, 48 * 48)).reshape(48, 48).astype(np.uint16)
        stored[5, 6] = 1000
        path.with_suffix(".dcm").write_bytes(content(stored, bits=12))
        path.unlink()
    (root / "landmarks.csv").write_text(lines.replace(".png", ".dcm"))
    return root


def load(root):
    config = default.get_config().data
    config.root, config.image_size = str(root), 32
    return data.load(config, root.parent / "cache")


@pytest.mark.slow
@pytest.mark.parametrize("hidden", ["nothing", "array_record.python.array_record_module"])
def test_a_folder_has_one_grey_range_and_keeps_no_header(folder, monkeypatch, hidden):
    monkeypatch.setitem(sys.modules, hidden, None)  # it is a zip archive then
    loaded = load(folder)
    assert loaded.grey == {"": {"integer": (0.0, 4095.0)}}
    for k in (0, 9):
        assert loaded.picture(f"images/{k:03d}.dcm")[5, 6].tolist() == [round(1000 * 255 / 4095)] * 3
    encoded, _ = builder.pictures(folder, points.read_folder(folder), folder.parent / "cache")
    kept = [encoded[k]["picture"] for k in range(len(encoded))]
    assert len(kept) == 16 and all(dicom.MAGIC in one for one in kept)
    assert not [text for text in PEOPLE.values() if any(text.encode() in one for one in kept)]


def test_a_folder_takes_the_spacing_of_its_files(folder, caplog):
    """0.2 mm between rows, 0.1 between columns; one row of the table says 0.5, one file knows the detector only."""
    files = sorted((folder / "images").glob("*.dcm"))
    for k, path in enumerate(files):
        known = {"ImagerPixelSpacing": [0.2, 0.1]} if k == 3 else {"PixelSpacing": [0.2, 0.1], "Modality": "MR"}
        path.write_bytes(content(np.full((48, 48), 40 + k, np.uint8), **known))
    header, *lines = (folder / "landmarks.csv").read_text().splitlines()
    lines = [f"{line},0.5,0.5" if "000.dcm" in line else f"{line},," for line in lines]
    (folder / "landmarks.csv").write_text("\n".join([f"{header},spacing_x_mm,spacing_y_mm", *lines]))
    table = points.read_folder(folder)
    want = np.tile([0.1, 0.2], (len(files), 1))
    want[0], want[3] = 0.5, np.nan
    np.testing.assert_array_equal(table.spacing, want)
    assert "1 spacings are not those of the DICOM files, and are used (first " in caplog.text
    assert "row 2: 0.5 x 0.5 mm against 0.1 x 0.2 mm, x by y)" in caplog.text
    assert "say the size of a pixel at the detector only" in caplog.text and "003.dcm" in caplog.text


def test_without_the_extra(monkeypatch):
    dicom._pydicom.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "pydicom"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    try:
        with pytest.raises(
            UserError, match=r"a\.dcm: DICOM files are read by pydicom, .* pip install 'ctd_jax\[dicom\]'"
        ):
            pictures.decode(b"", "a.dcm")
    finally:
        dicom._pydicom.cache_clear()
