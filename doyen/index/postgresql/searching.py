"""Search in the tables: nearest vectors, BM25, summaries; who may see what is tested within each query.

Enters: vectors, words, conditions. Leaves: rows with scores, best first. Vectors are scored one by one; where the store has
an HNSW index (maintenance.py) and nothing is filtered, by that.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.index.filtering import DocumentSet, Visible, Where
from doyen.index.postgresql.connecting import Database, execute
from doyen.index.postgresql.tables import vectors_from
from doyen.index.postgresql.terms import terms
from doyen.index.rows import FoundRow

Floats = NDArray[np.float32]

LEAST_EF, MOST_EF = 400, 1000
"""How many candidates the HNSW index keeps during a search: pgvector's bound is 1000."""
_FOUND = """SELECT c.id, c.document, c.start, f.score, vector_send(f.vector) AS vector
 FROM ({found}) f JOIN chunks c ON c.id = f.chunk ORDER BY f.score DESC, c.id"""
_NEAREST = "SELECT v.chunk, v.vector, -(v.vector <#> CAST(:query AS vector)) AS score FROM vectors v"
# "+ 0": an order that the HNSW index does not have; it would leave out rows that a condition lets through.
_EXACTLY = " ORDER BY (v.vector <#> CAST(:query AS vector)) + 0, v.chunk LIMIT :limit"
_BY_INDEX = " ORDER BY v.vector <#> CAST(:query AS vector) LIMIT :limit"
# BM25 as LanceDB has it: k1 = 1.2, b = 0.75, Lucene's idf (Robertson & Zaragoza 2009, The Probabilistic Relevance Framework).
_MATCHING = """WITH asked AS MATERIALIZED (
 SELECT term, chunks, counts FROM postings WHERE term = ANY(CAST(:terms AS text[]))
), rarity AS (
 SELECT a.term, ln(1 + greatest(t.chunks - sum(cardinality(a.chunks)) + 0.5, 0.5) / (sum(cardinality(a.chunks)) + 0.5)) AS idf
 FROM asked a, totals t GROUP BY a.term, t.chunks
), best AS (
 SELECT c.id AS chunk, sum(CAST(r.idf AS float8) * u.times * 2.2
  / (u.times + 1.2 * (0.25 + 0.75 * c.words / (CAST(t.words AS float8) / greatest(t.chunks, 1))))) AS score
 FROM asked a JOIN rarity r USING (term) CROSS JOIN LATERAL unnest(a.chunks, a.counts) AS u(chunk, times)
 JOIN chunks c ON c.id = u.chunk CROSS JOIN totals t WHERE {condition} GROUP BY c.id ORDER BY score DESC, c.id LIMIT :limit
) SELECT b.chunk, b.score, v.vector FROM best b JOIN vectors v ON v.chunk = b.chunk"""
_SUMMARIES = """SELECT s.document, -(v.vector <#> CAST(:query AS vector)) AS score
 FROM summaries s JOIN summary_vectors v ON v.summary = s.id JOIN documents c ON c.id = s.document
 WHERE s.section IS NULL AND {condition}"""


def nearest(
    database: Database,
    vector: Floats,
    limit: int,
    where: Where | None,
    without: str | None,
    approximate: bool,
    dim: int,
) -> list[FoundRow]:
    """Return the rows of highest cosine to a unit vector `(dim,)`; `approximate` says that there is an HNSW index."""
    values = {"query": as_text(vector), "limit": limit}
    if where is None and without is None:
        if approximate and limit <= MOST_EF // 2:
            return _rows(_by_index(database, values), dim)
        return _rows(database.rows(_FOUND.format(found=_NEAREST + _EXACTLY), **values), dim)
    condition, more = condition_of(where)
    if without is not None:
        condition, more = f"{condition} AND c.document <> :without", {**more, "without": without}
    found = f"{_NEAREST} JOIN chunks c ON c.id = v.chunk WHERE {condition}{_EXACTLY}"
    return _rows(database.rows(_FOUND.format(found=found), **values, **more), dim)


def _by_index(database: Database, values: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    with database.transaction() as connection:
        ef = min(MOST_EF, max(LEAST_EF, 2 * int(values["limit"])))
        execute(connection, f"SET LOCAL hnsw.ef_search = {ef}")
        return execute(connection, _FOUND.format(found=_NEAREST + _BY_INDEX), **values)


def matching(database: Database, words: str, limit: int, where: Where | None, dim: int) -> list[FoundRow]:
    """Return the rows of highest BM25 score for the words of a question (any of them)."""
    asked = list(dict.fromkeys(terms(words)))
    if not asked:
        return []
    condition, values = condition_of(where)
    sql = _FOUND.format(found=_MATCHING.format(condition=condition))
    return _rows(database.rows(sql, terms=asked, limit=limit, **values), dim)


def summary_nearness(database: Database, vector: Floats, documents: Collection[str]) -> dict[str, float]:
    """Return document → cosine of its summary to a unit vector `(dim,)`, of those that have one."""
    condition, values = condition_of(DocumentSet(frozenset(documents)), column="s.document")
    rows = database.rows(_SUMMARIES.format(condition=condition), query=as_text(vector), **values)
    return {row["document"]: float(row["score"]) for row in rows}


def nearest_summaries(database: Database, vector: Floats, limit: int, where: Where | None) -> dict[str, float]:
    """Return the documents of nearest summary with their cosines, best first."""
    if isinstance(where, str):  # a condition on chunks lets no summary through
        return {}
    condition, values = condition_of(where, column="s.document")
    sql = _SUMMARIES.format(condition=condition) + " ORDER BY score DESC, s.document LIMIT :limit"
    rows = database.rows(sql, query=as_text(vector), limit=limit, **values)
    return {row["document"]: float(row["score"]) for row in rows}


def condition_of(where: Where | None, column: str = "c.document") -> tuple[str, dict[str, Any]]:
    """Return what a search is held to as a condition on `c` (chunks, or documents), and its values."""
    if where is None:
        return "true", {}
    if isinstance(where, str):
        return f"c.id IN (SELECT id FROM chunks WHERE ({_literally(where)}))", {}
    if isinstance(where, Visible):
        condition, values = condition_of(where.documents, column)
        values = {**values, "labels": sorted(where.labels)}
        return f"(c.labels = '{{}}' OR c.labels && CAST(:labels AS text[])) AND {condition}", values
    ids = sorted(where.ids)
    return f"{column} IN (SELECT unnest(CAST(:documents AS text[])))", {"documents": ids}


def _literally(condition: str) -> str:
    return re.sub(r"(?<!:):(?=\w)", r"\\:", condition)


def as_text(vector: Floats) -> str:
    """Return a vector as pgvector reads it."""
    return str(np.asarray(vector, dtype=np.float32).tolist())


def _rows(found: Sequence[Mapping[str, Any]], dim: int) -> list[FoundRow]:
    vectors = vectors_from([row["vector"] for row in found], dim)
    return [
        FoundRow(row["id"], row["document"], row["start"], float(row["score"]), vector)
        for row, vector in zip(found, vectors, strict=True)
    ]
