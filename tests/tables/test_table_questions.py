"""Questions → plans → SQL → answers, run over small tables of this test's own."""

import datetime
import os

import pytest

from doyen.documents.csv_table import read_table
from doyen.documents.tables import TABLE, TableNote
from doyen.tables.asked import read_question
from doyen.tables.catalogue import StoredTable
from doyen.tables.executing import Setup, Statement, open_tables, run
from doyen.tables.limits import QueryLimits
from doyen.tables.loading import LoadedTable
from doyen.tables.named_values import named_answer
from doyen.tables.planning import plan
from doyen.tables.rows import table_cells
from doyen.tables.sandbox import _stream_of
from doyen.tables.sentences import decimals_asked, sentence, values_of
from doyen.tables.statements import statements

ORDERS = """order_no,customer,country,category,ordered_on,amount,items,express,weight_kg
A-001,Nordhaus,Norway,Tools,2024-01-05,"EUR 1,200",3,true,12.5
A-002,Lumen Ltd,Sweden,Lamps,2024-01-20,EUR 300,1,false,2.0
A-003,Nordhaus,Norway,Lamps,2024-03-02,EUR 450,2,false,
A-004,Fjellbygg,Norway,Tools,2024-03-15,"EUR 11,000",40,true,300
A-005,Kvist,Denmark,Paint,2024-03-31,EUR 90,1,false,5.5
A-006,Lumen Ltd,Sweden,Tools,2024-07-09,EUR 700,2,true,8.0
A-007,Kvist,Denmark,Paint,2025-03-11,EUR 110,4,false,22
A-008,Fjellbygg,Norway,Paint,2025-05-01,EUR 60,1,false,
"""
RIVERS = """station,year,waterLevel,MeanFlow,max_flow,Temp
Alder,2019,2.5,10,31,8.5
Alder,2020,3.5,14,44,9.5
Birch,2019,1.5,5,12,7.0
Birch,2020,2.0,7,20,NA
Cedar,2019,4.0,20,60,11.0
Cedar,2020,4.5,25,80,12.0
"""


def table_of(text, name):
    from pathlib import Path

    extracted = read_table(text.encode(), Path(f"{name}.csv"))
    note = TableNote.parse(dict(extracted.metadata)[TABLE])
    stored = StoredTable(f"{name}.csv", name, name, note.columns, note.rows, "0" * 64, 1, name, note)
    return LoadedTable(stored, table_cells(stored.document, extracted.text, note))


@pytest.fixture(scope="module")
def tables():
    return {"orders": table_of(ORDERS, "orders"), "rivers": table_of(RIVERS, "rivers")}


@pytest.fixture(scope="module")
def connection(tables):
    streams = {name: _stream_of(table.data) for name, table in tables.items()}
    return open_tables(Setup(streams, 256, os.getpid()))


@pytest.fixture(scope="module")
def asking(tables, connection):
    def ask(question, name="orders", **options):
        asked = read_question(question)
        found = plan(asked, tables[name])
        assert found is not None, question
        made = statements(found, **options)
        reply = run(connection, frozenset(tables), Statement(made.sql, (), QueryLimits()))
        assert not reply.reason, (made.sql, reply.reason)
        return asked, found, made, reply

    return ask


def test_cells_have_the_narrowest_type(tables):
    kinds = {c.name: (c.kind, c.unit) for c in tables["orders"].columns}
    assert kinds["amount"] == ("number", "EUR")
    assert kinds["ordered_on"] == ("date", "")
    assert kinds["items"] == ("integer", "")
    assert kinds["express"] == ("boolean", "")
    assert kinds["order_no"] == ("text", "")
    assert tables["rivers"].columns[5].filled == 5  # NA is no value


@pytest.mark.parametrize(
    ("question", "rows"),
    [
        ("How many orders are there?", [(8,)]),
        ("How many orders are from Norway?", [(4,)]),
        ("What is the total amount of the orders from Sweden?", [(1000.0,)]),
        ("What is the average amount of Tools orders?", [(4300.0,)]),
        ("What is the median number of items?", [(2.0,)]),
        ("What are the minimum and maximum amount?", [(60.0, 11000.0)]),
        ("How many different customers are there?", [(4,)]),
        ("How many orders over 1,000 were there in March, by country?", [("Norway", 1)]),
        ("How many orders were there in March 2024?", [(3,)]),
        ("How many orders were ordered in 2025?", [(2,)]),
        ("How many orders between 2024-01-10 and 2024-03-15?", [(3,)]),
        ("How many orders have an amount of at least 450?", [(4,)]),
        ("How many orders have more than 2 items?", [(3,)]),
        ("How many orders were ordered after March 2024?", [(3,)]),
        ("What is the sum of the amount for each category?", [("Lamps", 750.0), ("Paint", 260.0), ("Tools", 12900.0)]),
        ("Which customer has the highest amount?", [("Fjellbygg", 11000.0)]),
        ("Which customer has the most orders?", [(c, 2) for c in ("Fjellbygg", "Kvist", "Lumen Ltd", "Nordhaus")]),
        ("Which country has the lowest average amount?", [("Denmark", 100.0)]),
        ("How many missing values are there in the weight_kg column?", [(2,)]),
        ("What percentage of orders are from Norway?", [(50.0,)]),
        ("What is the amount of order A-006?", [(700.0,)]),
        ("Who is the customer of order A-005?", [("Kvist",)]),
        ("How many orders are not from Norway?", [(4,)]),
        ("How many orders are from Norway or Sweden?", [(6,)]),
        ("How many orders were express?", [(3,)]),
        ("How many orders were there in March or May?", [(5,)]),
        ("How many orders were there in January and March 2024?", [(5,)]),
        ("How many orders were there between March and July?", [(6,)]),
        ("How many orders were there since May?", [(2,)]),
        ("How many orders were there before March?", [(2,)]),
        ("How many items does order A-006 have?", [(2,)]),
        ("What is the most common category?", [("Paint", 3), ("Tools", 3)]),
        ("How many items were ordered from Norway?", [(46,)]),
        ("Which country has the most items?", [("Norway", 46)]),
        ("What percentage of Tools orders are express?", [(100.0,)]),
        ("What percentage of orders from Norway are Tools?", [(50.0,)]),
    ],
)
def test_questions_over_orders(asking, question, rows):
    *_, reply = asking(question)
    assert list(reply.rows) == rows


@pytest.mark.parametrize(
    ("question", "rows"),
    [
        ("Calculate the mean water level.", [(3.0,)]),
        ('What is the mean of the "MeanFlow" column?', [(13.5,)]),
        ("What is the average water level at Birch in 2020?", [(2.0,)]),
        ("Which station had the highest max flow in 2019?", [("Cedar", 60)]),
        ("What is the mean water level per station?", [("Alder", 3.0), ("Birch", 1.75), ("Cedar", 4.25)]),
        ("What is the mean temperature since 2020?", [(10.75,)]),
        (
            'Create a new feature "spread", the difference between max_flow and MeanFlow. What is its mean? What is the mean of this new feature?',
            [(pytest.approx(27.6667, abs=1e-3),)],
        ),
    ],
)
def test_questions_over_rivers(asking, question, rows):
    *_, reply = asking(question, "rivers")
    assert list(reply.rows) == rows


def test_deviation_is_that_of_a_sample_unless_the_population_is_asked_for(asking):
    *_, sample = asking("What is the standard deviation of MeanFlow?", "rivers")
    *_, whole = asking("What is the standard deviation of MeanFlow?", "rivers", population=True)
    assert sample.rows[0][0] == pytest.approx(7.7653, abs=1e-3)
    assert whole.rows[0][0] == pytest.approx(7.0887, abs=1e-3)


def test_correlation_of_two_columns(asking):
    *_, reply = asking("Is there a correlation between water level and mean flow?", "rivers")
    assert reply.rows[0][0] == pytest.approx(0.9733, abs=1e-2)


def test_values_are_quoted_in_sql():
    table = table_of("name,score\nO'Hara,3\nBlum,4\n", "people")
    found = plan(read_question("What is the score of O'Hara?"), table)
    assert found is not None
    assert "'O''Hara'" in statements(found).sql


def test_answers_say_value_unit_and_bounds(asking):
    asked, found, _, reply = asking("What is the average amount of Tools orders?")
    assert sentence(found, reply.columns, reply.rows, None) == "EUR 4,300 (mean of amount where category is Tools)"


def test_answers_under_names(asking):
    question = (
        "Calculate the mean and standard deviation of MeanFlow. Constraints: round to two decimal places. Answer format:"
        " @flow_std[std] @flow_mean[mean], numbers rounded to two decimal places."
    )
    asked, found, _, reply = asking(question, "rivers")
    text = named_answer(asked, values_of(found, reply.columns, reply.rows), decimals_asked(asked))
    assert text == "@flow_std[7.77] @flow_mean[13.50]"


@pytest.mark.parametrize(
    "question",
    ["Who wrote the novel?", "How high is the tower in Paris?", "Explain our return policy.", "", "???", "पानी कहाँ है?"],
)
def test_other_questions_fit_no_table_or_hardly(tables, question):
    from doyen.tables.routing import route

    assert route(read_question(question), list(tables.values())) is None


@pytest.mark.parametrize(
    "question",
    [
        "How many orders did not arrive?",
        "How many orders have no items?",
        "How many orders are from Norway, and how many from Sweden?",
        "When was the highest amount?",
        "Which country has the highest percentage of orders in 2024?",
        "How many more orders are from Norway than from Sweden?",
        "What is the average amount of orders older than 5 years?",
        "What is the average amount of the three largest orders?",
        "Which customer has the second highest amount?",
        "What is the difference between amount and weight for order A-006?",
        "How many orders were there in the last three months?",
        "What is the total amount of the first 7 orders?",
        "What is the average amount per item of orders from Norway compared to Sweden?",
        "What is the average delivery time of orders from Norway?",
    ],
)
def test_what_would_change_the_number_is_not_passed_over(tables, question):
    from doyen.tables.routing import route

    assert route(read_question(question), [tables["orders"]]) is None


def test_a_word_that_is_in_two_columns_names_is_neither():
    table = table_of("house,base_premium,minimum_premium\nflat,80,60\ncottage,90,70\n", "tariff")
    assert plan(read_question("What is the highest premium?"), table) is None
    assert plan(read_question("What is the highest minimum premium?"), table) is not None


def test_of_nearly_equal_plans_that_of_the_table_found_first_is_taken():
    from doyen.tables.routing import route

    claims = table_of("claim,cause\nC-1,accident\nC-2,storm\nC-3,storm\n", "claims")
    fleet = table_of("vehicle,accidents\nV-1,2\nV-2,3\nV-3,3\n", "fleet")
    for tables in ([claims, fleet], [fleet, claims]):
        found = route(read_question("How many accidents were there in total?"), tables)
        assert found is not None
        assert found.plan.table is tables[0]


def test_a_value_after_a_form_of_be_is_no_column():
    table = table_of("claim,status,paid\nC-1,paid,10\nC-2,open,0\nC-3,paid,30\n", "claims")
    for question, sql in (("paid", "= 'paid'"), ("not paid", "<> 'paid'")):
        found = plan(read_question(f"How many claims were {question}?"), table)
        assert found is not None
        assert f'"status" {sql}' in statements(found).sql


def test_long_answers_say_how_much_they_leave_out(asking):
    table = table_of("town,country\n" + "".join(f"T{n},Norway\n" for n in range(33)), "towns")
    found = plan(read_question("Which towns are in Norway?"), table)
    assert found is not None
    rows = [(f"T{n}",) for n in range(33)]
    assert sentence(found, ("town",), rows, None).endswith("T9 and 23 more")
    assert sentence(found, ("town",), rows, None, truncated=True).endswith("T9 and more")
    assert "LIMIT" not in statements(found).sql


def test_dates_come_back_as_dates(asking):
    *_, reply = asking("What is the ordered_on of order A-007?")
    assert reply.rows == ((datetime.date(2025, 3, 11),),)


def test_cited_sql_over_the_cited_rows_gives_the_number(asking, tables, connection):
    """What an answer cites reproduces it: the statement over the cited rows alone."""
    import duckdb

    questions = [
        "What is the total amount of the orders from Sweden?",
        "How many orders were there in March 2024?",
        "Which country has the lowest average amount?",
        "What is the median number of items?",
        "What is the amount of order A-006?",
        "Which customer has the highest amount?",
    ]
    for question in questions:
        _, found, made, reply = asking(question)
        ids = run(connection, frozenset(tables), Statement(made.rows_sql, (), QueryLimits()))
        kept = tables["orders"].data.take([row[0] for row in ids.rows])
        alone = duckdb.connect()
        alone.register("incoming", kept)
        alone.execute('CREATE TABLE "orders" AS SELECT * FROM incoming')
        assert alone.execute(made.sql).fetchall() == list(reply.rows), question
