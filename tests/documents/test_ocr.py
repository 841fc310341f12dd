"""Pictures: what OCR reads where it is installed, and what is said where it is not."""

import io
import os
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from doyen.documents.image import read_image
from doyen.documents.ocr import ocr_available, ocr_image, ocr_languages
from doyen.errors import DocumentError

needs_ocr = pytest.mark.skipif(not ocr_available(), reason="the program tesseract is not installed")


def draw(text):
    image = Image.new("RGB", (900, 160), "white")
    ImageDraw.Draw(image).text((20, 40), text, fill="black", font=ImageFont.load_default(size=48))
    return image


def saved(kind, image, *more, **options):
    buffer = io.BytesIO()
    frames = {"save_all": True, "append_images": more} if more else {}
    image.save(buffer, kind, **frames, **options)
    return buffer.getvalue()


@needs_ocr
@pytest.mark.parametrize(("kind", "name"), [("PNG", "a.png"), ("JPEG", "a.jpg"), ("WEBP", "a.webp"), ("BMP", "a.bmp")])
def test_the_text_on_a_picture_is_read(kind, name):
    picture = read_image(saved(kind, draw("Water damage 2024")), Path(name))
    assert picture.text == "Water damage 2024"
    assert [(page.number, page.start, page.end) for page in picture.pages] == [(1, 0, len(picture.text))]


@needs_ocr
def test_frames_of_a_tiff_are_pages_and_photographs_are_turned():
    scans = read_image(saved("TIFF", draw("First page"), draw("Second page")), Path("a.tif"))
    assert [scans.text[page.start : page.end] for page in scans.pages] == ["First page", "Second page"]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    turned = saved("JPEG", draw("Water damage").rotate(90, expand=True), exif=exif)
    assert read_image(turned, Path("a.jpg")).text == "Water damage"


@needs_ocr
def test_languages_and_faults():
    assert "eng" in ocr_languages().split("+")
    assert ocr_image(draw("Hello world"), "eng") == "Hello world"
    with pytest.raises(DocumentError, match="OCR failed"):
        ocr_image(draw("Hello"), "zzz")
    with pytest.raises(DocumentError, match="without text"):
        read_image(saved("PNG", Image.new("L", (60, 60), 255)), Path("a.png"))


@needs_ocr
@pytest.mark.parametrize(
    "data", [b"not it", saved("PNG", draw("x"))[:200], saved("PNG", Image.new("1", (30_000, 30_000)))]
)
def test_damaged_and_huge_pictures_are_refused(data):
    with pytest.raises(DocumentError, match="not a readable picture|pixels, more than"):
        read_image(data, Path("a.png"))


def test_without_the_program_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setenv("PATH", os.devnull)
    assert not ocr_available()
    with pytest.raises(DocumentError, match="needs OCR") as caught:
        read_image(saved("PNG", draw("x")), Path("a.png"))
    assert "doyen[ocr]" in (caught.value.hint or "")
