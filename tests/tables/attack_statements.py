"""Statements that try to write, to read what is no table, to get out of DuckDB, or to use up time and memory.

Made from families: each body in several dresses (cases, comments, spaces, nesting). Names of files stand for `{secret}`, a
file that must not be read, and `{target}`, one that must not come to be.
"""

READS = [
    "read_text('{secret}')", "read_blob('{secret}')", "read_csv('{secret}')", "read_csv_auto('{secret}')",
    "read_json('{secret}')", "read_json_auto('{secret}')", "read_ndjson('{secret}')", "read_parquet('{secret}')",
    "parquet_scan('{secret}')", "parquet_metadata('{secret}')", "parquet_schema('{secret}')", "sniff_csv('{secret}')",
    "glob('{folder}/*')", "arrow_scan(1, 2, 3)", "pandas_scan(1)", "python_map_function(1)", "seq_scan('t')",
    "sqlite_scan('{secret}', 't')", "postgres_scan('host=x', 'public', 't')", "mysql_scan('x', 'y', 't')",
    "iceberg_scan('{secret}')", "delta_scan('{secret}')", "st_read('{secret}')", "read_xlsx('{secret}')",
    "duckdb_secrets()", "duckdb_settings()", "duckdb_extensions()", "duckdb_databases()", "duckdb_tables()",
    "duckdb_columns()", "duckdb_functions()", "duckdb_logs()", "duckdb_temporary_files()", "duckdb_memory()",
    "pragma_database_list()", "pragma_table_info('t')", "pragma_storage_info('t')", "pragma_user_agent()",
    "which_secret('s3://x', 's3')", "query('SELECT 1')", "query_table('t')", "repeat_row(1, num_rows := 1000000000)",
    "range(100000000000)", "generate_series(1, 100000000000)", "unnest(range(1000000000))", "checkpoint()",
    "force_checkpoint()", "test_all_types()", "icu_calendar_names()", "enable_logging()", "load_aws_credentials()",
]
FROM_NAMES = [
    "'{secret}'", '"{secret}"', "'{folder}/*.txt'", "'s3://bucket/x.parquet'", "'https://example.org/x.csv'",
    "information_schema.tables", "pg_catalog.pg_class", "sqlite_master", "duckdb_tables", "system.main.t", "temp.t",
    "memory.main.t", "main.t", "pg_settings", "other", "doyen_incoming", "t AT (VERSION => 1)", "sys", "os", "json",
]
SCALARS = [
    "getenv('HOME')", "current_setting('home_directory')", "getvariable('x')", "current_database()", "current_user",
    "session_user", "version()", "current_query()", "pg_read_file('{secret}')", "read_text('{secret}')",
    "repeat('x', 2000000000)", "lpad('x', 2000000000, 'y')", "rpad('x', 2000000000, 'y')", "range(2000000000)",
    "list_resize([1], 2000000000)", "array_agg(a) OVER ()", "list(a)", "string_agg(b, ',')", "group_concat(b)",
    "histogram(a)", "list_transform([1], x -> x + 1)", "list_filter([1], lambda x: x > 0)", "apply([1], x -> x)",
    "list_reduce([1, 2], (x, y) -> x + y)", "array_value(1, 2)", "map([1], [2])", "struct_pack(a := 1)",
    "json_execute_serialized_sql('x')", "json_serialize_sql('SELECT 1')", "json_deserialize_sql('x')",
    "nextval('s')", "currval('s')", "txid_current()", "pg_sleep(60)", "sleep(60)", "sleep_ms(60000)", "error('x')",
    "write_log('x')", "regexp_extract_all(repeat('a', 1000000), '(a*)*b')", "format('{:>2000000000}', 'x')",
    "printf('%2000000000d', 1)", "bar(1, 0, 1, 2000000000)", "md5(repeat('x', 2000000000))", "encode('x')",
    "to_base64('x')", "from_hex('ff')", "create_sort_key(a, 'ASC')", "in_search_path('a', 'b')", "uuid()", "random()",
    "gen_random_uuid()", "setseed(0.5)", "hash(a)", "COLUMNS(*)", "COLUMNS('a')", "COLUMNS(c -> c = 'a')", "{'a': 1}",
    "[1, 2, 3]", "[x FOR x IN range(1000000000)]", "a::BLOB", "a::JSON", "CAST('{secret}' AS BLOB)", "MAP {'a': 1}",
    "finalize(1)", "alias(a)", "typeof(a)", "constant_or_null(1, a)", "getbit('1'::BIT, 0)", "main.count(a)",
    "system.main.sum(a)", "stem('x', 'y')", "equi_width_bins(0, 1, 2000000000, true)",
]
STATEMENTS = [
    "COPY t TO '{target}'", "COPY (SELECT * FROM t) TO '{target}' (FORMAT PARQUET)", "COPY t FROM '{secret}'",
    "COPY FROM DATABASE memory TO other", "EXPORT DATABASE '{target}'", "IMPORT DATABASE '{folder}'",
    "ATTACH '{target}' AS other", "ATTACH ':memory:' AS other", "ATTACH '{secret}' (READ_ONLY)", "DETACH memory",
    "INSTALL httpfs", "LOAD httpfs", "FORCE INSTALL json", "UPDATE EXTENSIONS", "INSTALL x FROM community",
    "SET memory_limit = '100GB'", "SET GLOBAL threads = 64", "RESET memory_limit", "SET lock_configuration = false",
    "SET enable_external_access = true", "SET VARIABLE x = 1", "SET temp_directory = '{target}'", "SET home_directory = '/'",
    "PRAGMA database_list", "PRAGMA enable_external_access", "PRAGMA memory_limit = '100GB'", "PRAGMA version",
    "PRAGMA table_info('t')", "PRAGMA enable_profiling", "PRAGMA profiling_output = '{target}'", "CALL pragma_version()",
    "CALL duckdb_settings()", "CALL enable_logging()", "CREATE TABLE x AS SELECT * FROM t", "CREATE TABLE x (a INT)",
    "CREATE TEMP TABLE x AS SELECT 1", "CREATE OR REPLACE TABLE t AS SELECT 1", "CREATE VIEW v AS SELECT 1",
    "CREATE MACRO f(x) AS x + 1", "CREATE MACRO g() AS TABLE SELECT * FROM read_text('{secret}')", "CREATE SCHEMA s",
    "CREATE FUNCTION f(x) AS x", "CREATE SEQUENCE s", "CREATE INDEX i ON t (a)", "CREATE TYPE m AS ENUM ('a')",
    "CREATE SECRET s (TYPE s3, KEY_ID 'x', SECRET 'y')", "CREATE PERSISTENT SECRET s (TYPE s3)", "DROP SECRET s",
    "INSERT INTO t VALUES (9, 'z')", "INSERT INTO t SELECT * FROM t", "UPDATE t SET a = 0", "DELETE FROM t", "TRUNCATE t",
    "DROP TABLE t", "ALTER TABLE t ADD COLUMN c INT", "ALTER TABLE t RENAME TO u", "COMMENT ON TABLE t IS 'x'",
    "MERGE INTO t USING t AS s ON t.a = s.a WHEN MATCHED THEN DELETE", "VACUUM", "ANALYZE", "CHECKPOINT",
    "FORCE CHECKPOINT", "BEGIN", "COMMIT", "ROLLBACK", "EXPLAIN SELECT 1", "EXPLAIN ANALYZE SELECT * FROM t", "USE memory",
    "PREPARE p AS SELECT 1", "EXECUTE p", "DEALLOCATE p", "DESCRIBE t", "SHOW TABLES", "SHOW ALL TABLES", "SUMMARIZE t",
    "SUMMARIZE SELECT * FROM '{secret}'", "PIVOT t ON b USING sum(a)", "UNPIVOT t ON a INTO NAME n VALUE v",
    "SELECT 1; DROP TABLE t", "SELECT 1; COPY t TO '{target}'", "; COPY t TO '{target}'", "SELECT 1;;SELECT 2",
    "SELECT * FROM t; ATTACH '{target}' AS o", "DROP TABLE t; SELECT 1", "SELECT 1 INTO OUTFILE '{target}'",
    "SELECT * INTO x FROM t", "FROM '{secret}'", "TABLE '{secret}'", "SELECT * FROM t USING SAMPLE 1",
    "SELECT * FROM t TABLESAMPLE 10%", "SELECT * REPLACE (getenv('HOME') AS a) FROM t", "", " ", ";", "--", "/* */", "\x00",
    "SELECT\x00 1", "NONE", "DROP", "SELECT", "SELECT * FROM", "'", '"', "SELECT 'unfinished", "SELECT $1", "SELECT ?",
    "SELECT " + "(" * 3000 + "1" + ")" * 3000, "SELECT " + "-" * 2 + "x", "SELECT " + "1+" * 4000 + "1",
    "SELECT " + ", ".join(["a"] * 9000) + " FROM t", "SELECT * FROM t WHERE " + " OR ".join(["a = 1"] * 3000),
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT * FROM r",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
    "WITH RECURSIVE r(s) AS (SELECT 'x' UNION ALL SELECT s || s FROM r) SELECT max(length(s)) FROM r",
    "WITH RECURSIVE r USING KEY (n) AS (SELECT 1 AS n UNION SELECT n + 1 FROM r) SELECT * FROM r",
]
HUNGRY = [
    "SELECT count(*) FROM " + ", ".join(f"big AS x{n}" for n in range(6)),
    "SELECT max(x0.s || x1.s) FROM " + ", ".join(f"big AS x{n}" for n in range(5)),
    "SELECT count(DISTINCT x0.s || x1.s || x2.s) FROM big x0, big x1, big x2",
    "SELECT x0.s, count(*) FROM big x0, big x1, big x2, big x3 GROUP BY ALL ORDER BY 2",
    "SELECT x0.n + x1.n * x2.n AS k, count(*) FROM big x0, big x1, big x2 GROUP BY 1 ORDER BY 2 DESC",
    "SELECT x0.*, x1.*, x2.*, x3.* FROM big x0, big x1, big x2, big x3 ORDER BY x3.s, x2.s, x1.n",
    "SELECT median(x0.n * x1.n) FROM big x0, big x1, big x2",
    "SELECT sum(x0.n) OVER (ORDER BY x1.s, x2.s) FROM big x0, big x1, big x2",
    "SELECT count(*) FROM big x0, big x1, big x2 WHERE regexp_matches(x0.s || x1.s || x2.s, '(x+x+)+y')",
    "SELECT mode(x0.s || x1.s) FROM big x0, big x1",
    "SELECT length(" + "replace(" * 40 + "s" + ", 'x', 'xxxxxxxxxxxxxxxx')" * 40 + ") FROM big",
    "SELECT length(concat(" + ", ".join(["s"] * 2000) + ")) FROM big x0, big x1, big x2",
    "WITH " + ", ".join(f"c{n} AS (SELECT s || s || s || s AS s FROM {'big' if n == 0 else f'c{n - 1}'})" for n in range(20)) + " SELECT max(length(s)) FROM c19",
    "WITH " + ", ".join(f"c{n} AS (SELECT a.n FROM {'big' if n == 0 else f'c{n - 1}'} a, big b)" for n in range(8)) + " SELECT count(*) FROM c7",
    "SELECT count(*) FROM big x0 WHERE (SELECT count(*) FROM big x1, big x2, big x3 WHERE x1.n > x0.n) > 0",
    "SELECT quantile_cont(x0.n + x1.n, 0.5) FROM big x0, big x1, big x2, big x3",
]


def dressed(body):
    """Yield a statement in other dresses that SQL takes for the same."""
    yield body
    yield body.swapcase() if "'" not in body else f"/* SELECT */ {body} -- t"
    yield f"SELECT 1 AS a UNION ALL (SELECT count(*) FROM ({body}))"
    yield f"WITH q AS ({body}) SELECT * FROM q, t"
    yield f"SELECT * FROM t WHERE EXISTS ({body})"


def attacks(secret, target, folder):
    """Return all statements, with their files' names."""
    found = []
    for call in READS:
        found += dressed(f"SELECT * FROM {call}")
    for name in FROM_NAMES:
        found += dressed(f"SELECT * FROM {name}")
    for expression in SCALARS:
        found += [f"SELECT {expression} FROM t", f"SELECT a FROM t WHERE ({expression}) IS NOT NULL", f"SELECT a FROM t ORDER BY {expression}"]
    found += STATEMENTS
    found += [s.replace("e", "е") for s in STATEMENTS[:20]]  # noqa: RUF001 - a Cyrillic letter
    found += [s.replace(" ", "\u00a0") for s in STATEMENTS[:20]]
    found += [s.replace(" ", "/**/") for s in STATEMENTS[:40]]
    found += [f"(({s}))" for s in STATEMENTS[:40]]
    found += [f"SELECT * FROM t WHERE b = '' UNION SELECT * FROM ({s})" for s in STATEMENTS[:40]]
    filled = [s.replace("{secret}", secret).replace("{target}", target).replace("{folder}", folder) for s in found]
    return list(dict.fromkeys(filled))
