"""Tables, views and one query → relations: columns, key, and the statements that page through their rows.

Pages are cut by key (`key > last … limit n`), so that each is a query of its own and a lost one is asked again.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from doyen.errors import DocumentError, UsageError
from doyen.sources.database.connecting import Database
from doyen.sources.options import SourceOptions

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, FromClause, Select

Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """What rows come from. `label` stands for it in ids; without `key` rows are named by their hash."""

    label: str
    source: FromClause
    columns: tuple[str, ...]
    types: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    key_is_given: bool = False

    def select(self, columns: Sequence[str]) -> Select[Any]:
        """Select columns as the driver gives them: declared types may not fit what is stored (SQLite, zero dates)."""
        import sqlalchemy as sa

        raw: list[ColumnElement[Any]] = [
            sa.type_coerce(self.source.c[c], sa.types.NullType()).label(c) for c in columns
        ]
        return cast("Select[Any]", sa.select(*raw))

    def page(self, columns: Sequence[str], after: Key | None, upto: Key | None = None) -> Select[Any]:
        """Select the rows with `after < key <= upto`, ordered by key; None leaves that end open."""
        statement = self.select(columns).where(*(self.source.c[c].is_not(None) for c in self.key))
        if after is not None:
            statement = statement.where(_greater(self, after))
        if upto is not None:
            statement = statement.where(_not_greater(self, upto))
        return statement.order_by(*(self.source.c[c] for c in self.key))

    def equals(self, key: Key) -> list[ColumnElement[bool]]:
        """Return the conditions that hold for the row with this key alone."""
        return [self.source.c[name] == value for name, value in zip(self.key, key, strict=True)]


def find_relations(database: Database, options: SourceOptions) -> tuple[list[Relation], list[str]]:
    """Return the relations that the options name (all tables where they name none), and the views passed over.

    Raises:
        UsageError: a table or a column of the options does not exist.
        DocumentError: the database holds no table.
    """
    if options.query and options.tables:
        raise UsageError("--table and --query exclude each other", hint="give one of them")
    views: list[str] = []
    if options.query:
        relations = [_query(database, options)]
    else:
        names, views = database.attempt(lambda connection: _names(connection, options.tables))
        if not names:
            raise DocumentError(
                f"{database.root} holds no table ({len(views)} views)", hint="--table VIEW reads a view"
            )
        relations = [database.attempt(lambda c, n=name: _table(c, n, options, database)) for name in names]  # type: ignore[misc]
    for option in ("updated_at", "labels_column"):
        column = getattr(options, option)
        if column and not any(column in relation.columns for relation in relations):
            what = ", ".join(relation.label for relation in relations)
            raise UsageError(f"no column '{column}' in {what} (--{option.replace('_', '-')})", hint="check its name")
    return relations, views


def _names(connection: Connection, wanted: Sequence[str]) -> tuple[list[str], list[str]]:
    import sqlalchemy as sa

    inspector = sa.inspect(connection)
    tables, views = sorted(inspector.get_table_names()), sorted(inspector.get_view_names())
    if not wanted:
        return tables, views
    known = {*tables, *views}
    schemas = {name.rpartition(".")[0] for name in wanted} & set(inspector.get_schema_names())
    for schema in schemas:
        known |= {f"{schema}.{n}" for n in (*inspector.get_table_names(schema), *inspector.get_view_names(schema))}
    missing = [name for name in wanted if name not in known]
    if missing:
        there = ", ".join(sorted(known)[:20])
        raise UsageError(f"no table {', '.join(missing)}", hint=f"there are: {there or 'none'}")
    return list(dict.fromkeys(wanted)), []


def _table(connection: Connection, name: str, options: SourceOptions, database: Database) -> Relation:
    import sqlalchemy as sa

    schema, _, bare = name.rpartition(".") if name in options.tables else ("", "", name)
    with warnings.catch_warnings():  # of types that only extensions of the database know
        warnings.simplefilter("ignore", sa.exc.SAWarning)
        table = sa.Table(bare, sa.MetaData(), autoload_with=connection, schema=schema or None, resolve_fks=False)
    columns = tuple(column.name for column in table.columns)
    types = tuple(_type(column.type, connection) for column in table.columns)
    notes = tuple(
        f"{', '.join(c.name for c in key.columns)} refers to {', '.join(e.target_fullname for e in key.elements)}"
        for key in sorted(table.foreign_key_constraints, key=lambda k: [c.name for c in k.columns])
    )
    key = tuple(column.name for column in table.primary_key.columns)
    if database.is_sqlite:
        for column in table.columns:
            column.type = sa.types.NullType()  # keys are compared as they are stored
    given = bool(options.key) and set(options.key) <= set(columns)
    if options.key and not given and options.tables:
        raise UsageError(f"{name} has no columns {', '.join(options.key)} (--key)", hint=f"it has {', '.join(columns)}")
    return Relation(name, table, columns, types, options.key if given else key, notes, key_is_given=given)


def _type(of: Any, connection: Connection) -> str:
    try:
        return str(of.compile(connection.dialect)).lower()
    except Exception:  # the edge: a type that SQLAlchemy cannot name has none
        return ""


def _query(database: Database, options: SourceOptions) -> Relation:
    import sqlalchemy as sa

    sql = options.query.strip().rstrip(";").strip()
    if not sql or sql.split(None, 1)[0].lower() not in ("select", "with", "values", "table"):
        raise UsageError("--query takes one SELECT", hint="nothing is ever written to a database")
    text = sa.text(sql.replace(":", r"\:"))
    shape = sa.select(sa.text("*")).select_from(text.columns().subquery("q")).where(sa.false())
    names = tuple(database.attempt(lambda connection: list(connection.execute(shape).keys())))
    if len(set(names)) < len(names):
        raise UsageError("two columns of --query have one name", hint="name them: SELECT a.id AS order_id, …")
    missing = [column for column in options.key if column not in names]
    if missing:
        raise UsageError(f"--query gives no column {', '.join(missing)} (--key)", hint=f"it gives {', '.join(names)}")
    source = text.columns(*(sa.column(name) for name in names)).subquery("q")
    return Relation("query", source, names, key=options.key, key_is_given=bool(options.key))


def _greater(relation: Relation, key: Key) -> ColumnElement[bool]:
    """`(a, b) > (x, y)`, spelt out: not every database compares rows, and fewer use an index for it."""
    import sqlalchemy as sa

    columns = [relation.source.c[name] for name in relation.key]
    return sa.or_(
        *(
            sa.and_(*(c == v for c, v in zip(columns[:n], key[:n], strict=True)), column > value)
            for n, (column, value) in enumerate(zip(columns, key, strict=True))
        )
    )


def _not_greater(relation: Relation, key: Key) -> ColumnElement[bool]:
    import sqlalchemy as sa

    columns = [relation.source.c[name] for name in relation.key]
    last = len(columns) - 1
    return sa.or_(
        *(
            sa.and_(
                *(c == v for c, v in zip(columns[:n], key[:n], strict=True)),
                column <= value if n == last else column < value,
            )
            for n, (column, value) in enumerate(zip(columns, key, strict=True))
        )
    )
