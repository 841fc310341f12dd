"""`doyen tables` and `doyen tables query`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from doyen.cli.output import ExpertOption, FilterOption, JsonOption, expert_folder, note, show

if TYPE_CHECKING:
    from pathlib import Path

    from doyen.index.filtering import Where
    from doyen.index.store import Index

_SHOWN_ROWS = 50


def register(app: typer.Typer) -> None:
    """Add the commands."""
    tables = typer.Typer(help="The tables that were ingested, and SQL over them.", invoke_without_command=True)
    tables.callback()(listed)
    tables.command("query")(query_)
    app.add_typer(tables, name="tables")


def listed(
    context: typer.Context, filter_: FilterOption = None, expert: ExpertOption = None, json_: JsonOption = False
) -> None:
    """List the ingested tables with their columns."""
    if context.invoked_subcommand is not None:
        return
    from doyen.tables.catalogue import list_tables
    from doyen.tables.loading import load

    index, where = _opened(expert, filter_)
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    for table in list_tables(index, where=where):
        columns = load(index, table, where=where).columns
        described = [
            {"name": c.name, "type": c.kind, "unit": c.unit, "filled": c.filled, "values": c.distinct} for c in columns
        ]
        rows.append(table.as_dict() | {"columns": described})
        lines.append(f"{table.sql_name}  ({table.document}, {table.rows:,} rows)")
        lines += [f"  {c.name}: {c.kind}{f' in {c.unit}' if c.unit else ''}" for c in columns]
    show({"tables": rows}, "\n".join(lines) or "no tables", json_)


def query_(
    sql: Annotated[str, typer.Argument(metavar="SQL")],
    rows: Annotated[int, typer.Option(help="The most rows to show.", min=1, max=100_000)] = 1000,
    seconds: Annotated[float, typer.Option(help="The longest that it may take.", min=0.1, max=600)] = 10.0,
    filter_: FilterOption = None,
    expert: ExpertOption = None,
    json_: JsonOption = False,
) -> None:
    """Run one SELECT over ingested tables. It can read nothing else, and write nothing."""
    from doyen.tables.limits import QueryLimits
    from doyen.tables.running import query
    from doyen.tables.sentences import shown

    index, where = _opened(expert, filter_)
    found = query(index, sql, limits=QueryLimits(rows=rows, seconds=seconds), where=where)
    result = {
        "sql": found.sql,
        "columns": list(found.columns),
        "rows": [[_plain(value) for value in row] for row in found.rows],
        "truncated": found.truncated,
        "documents": sorted({table.document for table in found.tables}),
    }
    lines = [" | ".join(found.columns)]
    lines += [" | ".join(shown(value, thousands=False) for value in row) for row in found.rows[:_SHOWN_ROWS]]
    if len(found.rows) > _SHOWN_ROWS or found.truncated:
        note(
            f"{len(found.rows)} rows{', there are more (--rows)' if found.truncated else ''}; --json shows all of them"
        )
    show(result, "\n".join(lines), json_)


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: dates and decimals as text and number."""
    import decimal

    if isinstance(value, decimal.Decimal):
        return float(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _opened(expert: Path | None, filters: list[str] | None) -> tuple[Index, Where | None]:
    from doyen.config import load_settings
    from doyen.ingesting import open_index

    folder = expert_folder(expert)
    index = open_index(folder, load_settings(folder))
    return index, index.filter_condition(filters) if filters else None
