"""Where sentences and rows end."""

import pytest

from doyen.chunking import sentence_spans
from doyen.chunking.dividing import divide_table


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("See e.g. No. 5 by Dr. Smith and J. Doe. It ends.", 2),
        ("He asked: why? Nobody knew!", 2),
        ("Version 3.2 is out. (See below.) Done", 3),
        ("1. Open the valve. Then close it.", 2),
        ("यह पहला है। यह दूसरा है।", 2),
        ("它好。它很好！是吗？", 3),
        ("Dots... go on. Then stop.", 2),
    ],
)
def test_sentences(text, count):
    spans = sentence_spans(text)
    assert len(spans) == count
    assert "".join(text[a:b] for a, b in spans).replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize(
    ("text", "is_first", "rows"),
    [
        ("a | b\n1 | 2\n3 | 4", True, ["a | b\n1 | 2\n", "3 | 4"]),
        ("a | b\n1 | 2\n3 | 4", False, ["a | b\n", "1 | 2\n", "3 | 4"]),
        ("| a |\n|---|\n| 1 |\n| 2 |", True, ["| a |\n|---|\n| 1 |\n", "| 2 |"]),
        ("| a |\n|---|", True, ["| a |\n|---|"]),
        ("a | b", True, ["a | b"]),
    ],
)
def test_rows(text, is_first, rows):
    assert [text[a:b] for a, b, _ in divide_table(text, 0, len(text), is_first, [])] == rows
