"""The real path with the real models: files → index → a question → a number with its rows; and a question for the texts."""

import pytest
from small_stores import write_files

import doyen
from doyen.ingesting import open_index

pytest.importorskip("duckdb")
pytestmark = pytest.mark.e2e
CLAIMS = "claim_no,cause,status,paid\n" + "".join(
    f"K-{n:03d},{'hail' if n % 3 else 'storm'},{'refused' if n % 5 == 0 else 'paid'},EUR {n * 100:,}\n".replace(
        f"EUR {n * 100:,}", f'"EUR {n * 100:,}"'
    )
    for n in range(1, 31)
)
RULES = "# Reporting a loss\n\nA loss is reported within ten days. The office in Corriden takes reports by telephone.\n"


def test_a_number_is_calculated_and_a_rule_is_read(tmp_path):
    expert = doyen.init(tmp_path / "expert")
    write_files(tmp_path / "files", {"claims.csv": CLAIMS, "rules.md": RULES})
    doyen.ingest(expert, [tmp_path / "files"])
    opened = doyen.Expert.open(expert)

    counted = opened.ask("How many claims were refused?")
    assert counted.text.startswith("6 ")
    average = opened.ask("What is the average paid amount by cause?")
    assert "storm: EUR 1,650" in average.text
    found = opened.ask("What is the cause of claim K-009?")
    assert found.text == "storm"
    read = opened.ask("Where are reports taken by telephone?")
    assert not any(c.sql for c in read.citations)

    index = open_index(expert, doyen.config.load_settings(expert))
    for answer in (counted, average, found, read):
        for citation in answer.citations:
            assert index.text(citation.document)[0][citation.start : citation.end] == citation.quote
    assert found.citations[0].rows == ("9",)
    assert counted.citations[0].row_count == 6

    doyen.remove_documents(expert, ["claims.csv"])
    gone = doyen.Expert.open(expert, engine=opened.engine).ask("How many claims were refused?")
    assert not any(c.sql for c in gone.citations)
