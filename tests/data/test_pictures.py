"""Every kind of picture file comes out as upright 8-bit RGB."""

import base64
import io
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from ctd_jax.data import pictures
from ctd_jax.errors import UserError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (30, 47), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (30, 47, 3), dtype=np.uint8)
ORIENTATION = 0x0112  # EXIF tag

# Where the stored row 0 and column 0 are in the upright picture (EXIF 2.32, table of tag Orientation), done by NumPy.
STORED = {
    1: lambda upright: upright,  # top, left
    2: lambda upright: upright[:, ::-1],  # top, right
    3: lambda upright: upright[::-1, ::-1],  # bottom, right
    4: lambda upright: upright[::-1],  # bottom, left
    5: lambda upright: upright.swapaxes(0, 1),  # left, top
    6: lambda upright: upright[:, ::-1].swapaxes(0, 1),  # right, top
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),  # right, bottom
    8: lambda upright: upright[::-1].swapaxes(0, 1),  # left, bottom
}


def encoded(picture, kind="PNG", **options):
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(np.ascontiguousarray(picture))
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def decoded(picture, kind="PNG", **options):
    result = pictures.decode(encoded(picture, kind, **options), "some.png")
    assert result.dtype == np.uint8 and result.ndim == 3 and result.shape[2] == 3
    return result


def repeated(grey):
    return np.repeat(grey[..., None], 3, axis=2)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_colour_and_grey(kind):
    np.testing.assert_array_equal(decoded(COLOUR, kind), COLOUR)
    np.testing.assert_array_equal(decoded(GREY, kind), repeated(GREY))
    np.testing.assert_array_equal(decoded(Image.fromarray(GREY > 99), kind), repeated((GREY > 99) * np.uint8(255)))


def test_jpeg_and_webp_are_near():
    smooth = np.asarray(Image.fromarray(COLOUR[:4, :6]).resize((60, 40), Image.Resampling.BICUBIC))
    for kind in ("JPEG", "WEBP"):
        assert np.abs(decoded(smooth, kind, quality=95).astype(int) - smooth).mean() < 4
    cmyk = Image.fromarray(smooth).convert("CMYK")
    assert np.abs(decoded(cmyk, "JPEG", quality=95).astype(int) - smooth).mean() < 4


def test_transparent_is_laid_over_black():
    alpha = RNG.integers(0, 256, (30, 47, 1), dtype=np.uint8)
    want = COLOUR * (alpha / 255)
    np.testing.assert_allclose(decoded(np.concatenate([COLOUR, alpha], 2)), want, atol=1.01)
    grey = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha[..., 0])])
    np.testing.assert_allclose(decoded(grey), repeated(GREY * (alpha[..., 0] / 255)), atol=1.01)
    opaque = np.concatenate([COLOUR, np.full_like(alpha, 255)], 2)
    np.testing.assert_array_equal(decoded(opaque), COLOUR)


def test_palette():
    palette = RNG.integers(0, 256, (256, 3), dtype=np.uint8)
    picture = Image.fromarray(GREY)
    picture.putpalette(palette.ravel().tolist())
    assert picture.mode == "P"
    want = palette[GREY]
    for kind in ("PNG", "GIF"):
        np.testing.assert_array_equal(decoded(picture, kind), want)
    want[GREY == 7] = 0
    np.testing.assert_array_equal(decoded(picture, transparency=7), want)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_grey_of_many_bits(bits, kind):
    """The full range of the bits in use becomes 0..255, whatever the file could hold."""
    values = RNG.integers(0, 2**bits, (30, 47), dtype=np.uint16)
    values[0, :2] = 0, 2**bits - 1
    np.testing.assert_array_equal(decoded(values, kind), repeated(np.rint(values / (2**bits - 1) * 255)))


def test_grey_of_32_bits_and_big_endian():
    values = RNG.integers(0, 4096, (30, 47))
    values[0, 0] = 4095
    want = repeated(np.rint(values / 4095 * 255))
    np.testing.assert_array_equal(decoded(values.astype(np.int32), "TIFF"), want)
    big = Image.frombytes("I;16B", (47, 30), values.astype(">u2").tobytes())
    np.testing.assert_array_equal(decoded(big, "TIFF"), want)


def test_fractions():
    values = RNG.uniform(0, 1, (30, 47)).astype(np.float32)
    np.testing.assert_allclose(decoded(values, "TIFF"), repeated(values * 255), atol=0.51)
    values[3, 4], values[5, 6] = np.nan, np.inf
    result = decoded(values, "TIFF")
    assert result[3, 4].max() == 0 and result.max() > 250
    np.testing.assert_allclose(decoded(GREY.astype(np.float32), "TIFF"), repeated(GREY))


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["colour", "grey16"])
def test_exif_rotation(orientation, kind):
    grey16 = GREY.astype(np.uint16) * 257
    upright, want = (COLOUR, COLOUR) if kind == "colour" else (grey16, repeated(GREY))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    np.testing.assert_array_equal(decoded(STORED[orientation](upright), exif=exif), want)


def test_exif_rotation_of_jpeg():
    """Phones store the picture lying: orientation 6 says that its right-hand side is up."""
    upright = np.zeros((48, 32, 3), np.uint8)
    upright[:16, :16] = 255, 0, 0
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    result = decoded(STORED[6](upright), "JPEG", exif=exif, quality=95)
    assert result.shape == (48, 32, 3)
    assert result[8, 8, 0] > 200 and result[40, 24].max() < 50


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF"])
def test_truncated_anywhere(kind):
    content = encoded(COLOUR, kind)
    for length in np.linspace(0, 0.9 * len(content), 12).astype(int):
        with pytest.raises(UserError, match=r"some.png: not a readable picture .*; replace the file"):
            pictures.decode(content[:length], "some.png")


def test_damaged_or_something_else():
    """Bytes knocked over: a picture or a UserError, never another exception."""
    rng = np.random.default_rng(1)
    for kind in ("PNG", "JPEG", "WEBP"):
        content = encoded(COLOUR, kind)
        for _ in range(40):
            damaged = bytearray(content)
            for place in rng.integers(0, min(200, len(content)), 4):
                damaged[place] = rng.integers(0, 256)
            try:
                pictures.decode(bytes(damaged), "some.png")
            except UserError:
                continue
    short_header, huge = bytearray(encoded(GREY, "PNG")), bytearray(encoded(GREY, "BMP"))
    short_header[11], huge[21] = 0, 255  # Pillow raises ValueError and DecompressionBombError
    for content in (b"", b"image,subject\n", b"\x00" * 1000, bytes(short_header)):
        with pytest.raises(UserError, match="some.png: not a readable picture"):
            pictures.decode(content, "some.png")
    with pytest.raises(UserError, match="some.png: the picture has more than 80,000,000 pixels"):
        pictures.decode(bytes(huge), "some.png")


def png_of_16_bits(values, colour_type):
    """A PNG whose channels are the last axis, written by hand: Pillow can't (RFC 2083)."""
    return png(values.astype(">u2"), values.shape[1], 16, colour_type)


def png(rows, width, bits, colour_type=0):
    """A PNG of the bytes of each row."""
    header = struct.pack(">IIBBBBB", width, len(rows), bits, colour_type, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = ((b"IHDR", header), (b"IDAT", content), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def tiff_of_16_bits(values, byte_order, *more_tags):
    """An uncompressed RGB TIFF (TIFF 6.0, section 6)."""
    height, width = values.shape[:2]
    pack = {"<": b"II*\0", ">": b"MM\0*"}[byte_order]
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, 8 + 2 + (9 + len(more_tags)) * 12 + 4),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
    ]
    tags += [(273, 4, 1, 160), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, values.size * 2), *more_tags]
    head = pack + struct.pack(f"{byte_order}IH", 8, len(tags))
    for tag, kind, count, value in tags:
        single = kind == 3 and count == 1
        head += struct.pack(f"{byte_order}HHI" + ("HH" if single else "I"), tag, kind, count, value, *[0] * single)
    head += struct.pack(f"{byte_order}I3H", 0, 16, 16, 16)
    return head.ljust(160, b"\0") + values.astype(f"{byte_order}u2").tobytes()


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("kind", ["png", "tiff_little", "tiff_big"])
def test_colour_of_many_bits(bits, kind):
    values = RNG.integers(0, 2**bits, (30, 47, 3), dtype=np.uint16)
    values[0, 0] = 2**bits - 1
    content = {
        "png": lambda: png_of_16_bits(values, 2),
        "tiff_little": lambda: tiff_of_16_bits(values, "<"),
        "tiff_big": lambda: tiff_of_16_bits(values, ">"),
    }[kind]()
    want = np.rint(values / (2**bits - 1) * 255)
    np.testing.assert_array_equal(pictures.decode(content, "some.png"), want)
    half = pictures.decode(content, "some.png", {"integer": (0, 2 ** (bits + 1) - 1)})
    np.testing.assert_array_equal(half, np.rint(values / (2 ** (bits + 1) - 1) * 255))


def test_channel_after_channel():
    """Pillow takes the bytes of such a file for 8-bit values."""
    content = tiff_of_16_bits(RNG.integers(0, 4096, (30, 47, 3), dtype=np.uint16), "<", (284, 3, 1, 2))
    with pytest.raises(UserError, match="some.tif: not a readable picture .16-bit colour that lies channel after"):
        pictures.decode(content, "some.tif")


def test_transparency_of_many_bits():
    values = RNG.integers(0, 4096, (30, 47, 3), dtype=np.uint16)
    values[0, 0] = 4095
    alpha = np.full((30, 47, 1), 65535, np.uint16)
    alpha[5:9] = 0
    want = np.rint(values / 4095 * 255)
    want[5:9] = 0
    found = pictures.decode(png_of_16_bits(np.concatenate([values, alpha], 2), 6), "some.png")
    np.testing.assert_array_equal(found, want)
    found = pictures.decode(png_of_16_bits(np.concatenate([values[..., :1], alpha], 2), 4), "some.png")
    np.testing.assert_array_equal(found, repeated(want[..., 0]))
    for channels in (1, 3):
        nothing = np.concatenate([values[..., :channels], 0 * alpha], 2)
        with pytest.raises(UserError, match="some.png: every pixel is transparent"):
            pictures.decode(png_of_16_bits(nothing, {1: 4, 3: 6}[channels]), "some.png")


def test_wholly_transparent():
    nothing = np.concatenate([COLOUR, np.zeros((30, 47, 1), np.uint8)], 2)
    palette = Image.fromarray(GREY * 0)
    palette.putpalette([1, 2, 3] * 256)
    for content in (encoded(nothing), encoded(palette, transparency=0)):
        with pytest.raises(UserError, match="some.png: every pixel is transparent.*save the picture without"):
            pictures.decode(content, "some.png")


@pytest.mark.parametrize("bits", [12, 16])
def test_white_is_the_least_value(bits):
    """TIFF 6.0, PhotometricInterpretation 0. (Of 8 bits Pillow itself turns the values round, both ways.)"""
    values = RNG.integers(0, 2**bits, (30, 47), dtype=np.uint16)
    values[0, :2] = 0, 2**bits - 1
    want = repeated(255 - np.rint(values / (2**bits - 1) * 255))
    np.testing.assert_array_equal(decoded(values, "TIFF", tiffinfo={262: 0}), want)


def test_signed_of_16_bits():
    values = RNG.integers(-1024, 3072, (30, 47)).astype(np.int16)
    values[0, :3] = -1024, 3071, 0
    found = decoded(values.view(np.uint16), "TIFF", tiffinfo={339: 2})
    np.testing.assert_array_equal(found, repeated(np.rint((values.astype(int) + 1024) / 5119 * 255)))


def test_the_page_of_full_size():
    thumbnail, page, other = (Image.fromarray(COLOUR).resize(size) for size in ((12, 8), (47, 30), (47, 30)))
    content = encoded(thumbnail, "TIFF", save_all=True, append_images=[page, Image.fromarray(COLOUR[::-1])])
    stored = pictures.read(content, "some.tif")
    np.testing.assert_array_equal(stored.values, COLOUR)
    assert stored.note == "3 pages, of which page 2 of 47 x 30 pixels is taken"
    for kind in ("GIF", "WEBP", "PNG"):
        content = encoded(page, kind, save_all=True, append_images=[thumbnail.resize(page.size), other])
        assert pictures.read(content, "some").note == "3 frames, of which the first is taken", kind
    assert pictures.read(encoded(page, "TIFF"), "some").note == ""


def test_no_other_format_is_tried(monkeypatch):
    """An EPS named a.png would start Ghostscript."""
    from PIL import EpsImagePlugin

    for start in ("Ghostscript", "has_ghostscript"):
        monkeypatch.setattr(EpsImagePlugin, start, lambda *_, **__: pytest.fail("Ghostscript is started"))
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    for content in (eps, encoded(COLOUR, "PPM"), encoded(COLOUR, "ICO"), encoded(COLOUR, "PCX")):
        with pytest.raises(UserError, match="a.png: not a readable picture .of no known format"):
            pictures.decode(content, "a.png")


@pytest.mark.slow
def test_limit_of_pixels():
    """Known from the head of the file: nothing is unpacked."""
    huge = Image.new("1", (10_000, 8001))
    for kind in ("PNG", "BMP", "TIFF"):
        with pytest.raises(UserError, match=r"has more than 80,000,000 pixels.*10000 x 8001"):
            pictures.decode(encoded(huge, kind), "some.png")


@pytest.mark.parametrize("orientation", STORED)
def test_class_maps_are_turned_as_pictures_are(orientation):
    classes = RNG.integers(0, 4, (30, 47), dtype=np.uint8)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    content = encoded(STORED[orientation](classes), exif=exif)
    np.testing.assert_array_equal(pictures.decode_classes(content, "some.png"), classes)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_class_maps_of_few_bits_are_what_the_file_holds(bits):
    classes = RNG.integers(0, 2**bits, (30, 48), dtype=np.uint8)
    rows = np.packbits(np.unpackbits(classes[..., None], axis=2)[..., -bits:].reshape(30, -1), axis=1)
    np.testing.assert_array_equal(pictures.decode_classes(png(rows, 48, bits), "some.png"), classes)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "TIFF"])
def test_a_class_map_is_a_png(kind):
    with pytest.raises(UserError, match="some.jpg: not a readable class map .*; a class map is a PNG"):
        pictures.decode_classes(encoded(GREY % 4, kind), "some.jpg")


# four fields of 32 x 24 pixels, red and green above blue and grey, written with pillow-heif 1.x
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAX1tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9jAA"
    "AAAERAAAEAAQAAAAABoQABAAAAAAAAARMAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA/WlwcnAA"
    "AADdaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkA"
    "AAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAA"
    "AAAoY2xhcAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBpeGkAAAAAAwgICAAAABhpcG1hAAAAAAAAAAEAAQWBAgMFhAAAAR"
    "ttZGF0AAABDygBrwY4Wve238hk///5BH6H9yn6J0VvxpWNqr7cKd9++ff/+lbEu9YwnVTKD8Zxe7O5SJUdEtB13uLI+FSyobwT8nAM0X1sAchx"
    "Ni85doTFZLC377+4FU/kEdRoybrKlq/YwCO+4rd/+iDf/9hXKv9hImujzzfw+vwrHtpsnnieUf6ZXx+DLNizt4cD+d+gQxBTnG0Nk5jeJ5ynIJ"
    "EkQAxNfX1tviuAEwa5F/FK/UMONFO+kWQARPr2Nh+mNUGLvJ/ReFMDAAYSfG8hbxTp04MVR7A0ADE5s05JEHLsq9S6KRX2ALe3VOECHA6OkiUh"
    "Tsm6u6VWUmgx2ewrTlaXXyDf/egKwKqTxBJb29F/vJA="
)


def test_heic():
    found = pictures.decode(HEIC, "a.heic").astype(int)
    assert found.shape == (48, 64, 3)
    want = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (128, 128, 128)]
    np.testing.assert_allclose(found[[5, 5, 40, 40], [5, 60, 5, 60]], want, atol=2)
    assert pictures.is_deep(io.BytesIO(HEIC), "a.heic") == (False, "")
    with pytest.raises(UserError, match=r"a\.heic: not a readable picture"):
        pictures.decode(HEIC[:300], "a.heic")


def test_heic_without_the_extra(monkeypatch):
    for reader in pictures.HEIF_READERS:
        monkeypatch.setitem(sys.modules, reader, None)
    with pytest.raises(
        UserError, match=r"a\.heic: HEIC pictures are read by pi-heif, .*; pip install 'ctd_jax\[heic\]'"
    ):
        pictures.decode(HEIC, "a.heic")
