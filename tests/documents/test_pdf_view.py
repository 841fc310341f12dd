"""Quotes on PDF pages: their boxes, the drawn page, what cannot be shown."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from documents.pdf_files import make_pdf, table

from doyen.documents.pdf import read_pdf
from doyen.documents.pdf_match import PageText
from doyen.documents.pdf_view import MAX_PIXELS, Quote, draw_page, find_boxes
from doyen.errors import DocumentError

PROSE = [
    (60, 700, "The comprehensive household contents insur-"),
    (60, 686, "ance covers damage by water and fire."),
    (60, 650, "Total 12"),
    (60, 400, "Total 12"),
]


def pixels(png):
    width, height = struct.unpack(">II", png[16:24])
    length = struct.unpack(">I", png[33:37])[0]
    rows = np.frombuffer(zlib.decompress(png[41 : 41 + length]), dtype=np.uint8).reshape(height, width * 3 + 1)
    return rows[:, 1:].reshape(height, width, 3)


def test_one_box_a_line_in_points_and_in_shares_of_the_page():
    ((first, second),) = find_boxes(make_pdf([PROSE]), 1, ["household contents insurance covers damage"])
    assert first.y0 < 700 < first.y1 and second.y0 < 686 < second.y1
    assert 60 < first.x0 and second.x0 == pytest.approx(60, abs=1)
    assert first.left == pytest.approx(first.x0 / 595.28, abs=0.001)
    assert first.top == pytest.approx(1 - first.y1 / 841.89, abs=0.001)
    assert first.bottom < second.bottom


def test_the_position_chooses_among_equal_passages():
    (top,), (bottom,) = find_boxes(make_pdf([PROSE]), 1, [Quote("Total 12", 0.7), Quote("Total 12", 1.0)])
    assert top.y0 > 640 and bottom.y0 < 410


def test_every_line_of_our_text_is_found_on_its_page():
    rows = [("Receivables, net of allowances for doubtful", "310", "295"), ("accounts and for returns", None, None)]
    data = make_pdf([[*PROSE, *table([*rows, ("Stock, net", "1,400", "(77)")], top=300)]])
    for line in read_pdf(data, Path("a.pdf")).text.split("\n"):
        assert find_boxes(data, 1, [line])[0], line


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_boxes_lie_where_a_turned_page_shows_them(rotation):
    upright = find_boxes(make_pdf([PROSE]), 1, ["covers damage by water"])[0][0]
    turned = find_boxes(make_pdf([PROSE], rotation=rotation), 1, ["covers damage by water"])[0][0]
    for side in ("left", "top", "right", "bottom"):
        assert getattr(turned, side) == pytest.approx(getattr(upright, side), abs=0.002)
    assert turned.x0 < turned.x1 and turned.y0 < turned.y1


@pytest.mark.parametrize("rotation", [0, 90])
def test_the_page_is_drawn_with_the_passage_highlighted(rotation):
    view = draw_page(make_pdf([PROSE], rotation=rotation), 1, ["covers damage by water"], scale=1.5)
    image = pixels(view.png)
    assert image.shape == (view.height, view.width, 3) == (1263, 893, 3)
    ((box,),) = view.boxes
    inside = image[int(box.top * view.height) + 1, int((box.left + box.right) / 2 * view.width)]
    assert inside[2] < 130 and inside[0] > 200
    assert (image[5, 5] == 255).all()


def test_what_is_not_on_the_page_has_no_boxes():
    data = make_pdf([PROSE, []])
    assert find_boxes(data, 1, ["a sentence that nobody wrote here", "", "—"]) == ((), (), ())
    assert find_boxes(data, 2, ["Total 12"]) == ((),)
    with pytest.raises(DocumentError, match="2 pages; page 3"):
        find_boxes(data, 3, ["Total"])
    with pytest.raises(DocumentError, match="not a readable PDF"):
        draw_page(b"%PDF-1.7", 1)


def test_a_gigantic_page_is_drawn_small():
    view = draw_page(make_pdf([["Text"]], size=(14_000, 14_000)), 1, ["Text"], scale=4)
    assert view.width * view.height <= MAX_PIXELS * 1.01


def test_quotes_match_whatever_spaces_hyphens_and_ligatures_do():
    page = PageText("The ef\ufb01cient  of\ufb01\ufb01ce in-\r\nsures\xad\r\n every Caf\xe9.")
    (found,) = page.find("efficient offiﬁce insures every café")
    assert found == (4, page.length - 1)
    assert page.find("") == [] and page.find("entirely different words") == []


def test_a_quote_in_another_order_is_found_in_its_pieces():
    page = PageText("Net cash used in investing 100 200 activities of the group")
    ranges = page.find("Net cash used in investing activities of the group 100 200")
    assert ranges[0][0] == 0 and len(ranges) >= 2
