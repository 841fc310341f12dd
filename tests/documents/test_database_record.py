"""Database rows as documents."""

import json
from pathlib import Path

import pytest

from doyen.documents.record import read_record
from doyen.errors import DocumentError


def read(columns, title=""):
    row = {"table": "customer", "key": "17", "title": title, "columns": columns}
    return read_record(json.dumps(row).encode(), Path("row.record"))


def test_a_row_is_one_line_a_column_with_its_values_as_metadata():
    extracted = read({"name": "Anna", "since": "2019-03-01", "vip": True, "note": "a" * 500, "empty": ""}, "Anna")
    assert extracted.text == f"name: Anna\nsince: 2019-03-01\nvip: yes\nnote: {'a' * 500}"
    assert extracted.title == "Anna"
    assert dict(extracted.metadata) == {"name": "Anna", "since": "2019-03-01", "vip": "yes", "note": "a" * 200}


def test_a_row_without_a_title_is_named_by_table_and_key():
    assert read({"n": 1}).title == "customer 17"


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"table": 1}', b'{"table":"a","key":"b","columns":3}', b"[" * 100_000]
)
def test_other_bytes_are_refused(data):
    with pytest.raises(DocumentError, match=r"row.record is not a database record"):
        read_record(data, Path("row.record"))


def test_a_row_without_values_is_refused():
    with pytest.raises(DocumentError, match="the row 17 of customer has no values"):
        read({"a": "", "b": None})
