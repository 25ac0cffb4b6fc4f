"""The other sides: one question answered by one of them, in a process that is timed from outside.

    python benches/pit/peers.py SIDE QUESTION.json OUT.parquet [EXTRA]

Parquet (snappy) in, Parquet (snappy) out. Where a side can be asked in several ways, it is the one that took the least time.
"""

import os
import sys

from question import CREATED, EVENT, KEY, ROW, THREADS, Question, View


def connect():
    """DuckDB on the threads that everybody has. It need not keep the order of rows."""
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"SET threads = {THREADS}; SET preserve_insertion_order = false; SET enable_progress_bar = false")
    return connection


def duckdb_join(connection, question: Question, rows: str, out: str, newest_created: bool, only: str = "") -> None:
    """ASOF joins, one per view. `rows` are the entity rows. `newest_created`: of equal event times, the row that became known
    last. `only` is a condition on feature rows."""
    selected = ["e.*"]
    joins = []
    for number, view in enumerate(question.views):
        alias = f"v{number}"
        columns = ", ".join([KEY, EVENT, *view.features])
        features = f"SELECT {columns} FROM read_parquet('{view.files}') {only}"
        if newest_created:
            features += f" QUALIFY row_number() OVER (PARTITION BY {KEY}, {EVENT} ORDER BY {CREATED} DESC) = 1"
        joins.append(f"ASOF LEFT JOIN ({features}) {alias} ON e.{KEY} = {alias}.{KEY} AND e.{EVENT} >= {alias}.{EVENT}")
        selected += [within_ttl(view, alias, feature) for feature in view.features]
    write(connection, f"SELECT {', '.join(selected)} FROM {rows} e {' '.join(joins)}", out)


def write(connection, query: str, out: str) -> None:
    """Writes what DuckDB answers."""
    connection.execute(f"COPY ({query}) TO '{out}' (FORMAT parquet, COMPRESSION snappy)")


def within_ttl(view: View, alias: str, feature: str) -> str:
    """A feature, null when its row is older than the ttl allows."""
    if view.ttl_days is None:
        return f"{alias}.{feature}"
    micros = view.ttl_days * 86_400_000_000
    return f"CASE WHEN epoch_us({alias}.{EVENT}) >= epoch_us(e.{EVENT}) - {micros} THEN {alias}.{feature} END AS {feature}"


def duckdb_asof(question: Question, out: str) -> None:
    """DuckDB; ties are answered by stored order."""
    duckdb_join(connect(), question, f"read_parquet('{question.entity_rows}')", out, newest_created=False)


def duckdb_ties(question: Question, out: str) -> None:
    """DuckDB; ties are answered by created time."""
    duckdb_join(connect(), question, f"read_parquet('{question.entity_rows}')", out, newest_created=True)


def reference(question: Question, out: str, every: str) -> None:
    """The answer that all sides are compared with, for each `every`-th entity row. Not timed.

    It is what `duckdb_ties` answers. Feature rows of other keys are left out early, so that a few entity rows can be answered from
    a large history with little memory. The entity rows are a table, so that DuckDB knows their number: of a filtered file it
    expects a handful, and chooses a nested loop.
    """
    connection = connect()
    rows = f"SELECT * FROM read_parquet('{question.entity_rows}') WHERE {ROW} % {every} = 0"
    connection.execute(f"CREATE TEMP TABLE asked AS {rows}")
    only = f"WHERE {KEY} IN (SELECT {KEY} FROM asked)"
    duckdb_join(connection, question, "asked", out, newest_created=True, only=only)


def duckdb_scan(question: Question, out: str, result: str) -> None:
    """The least that any join must do: reads and sums the columns that it reads, and writes the rows that it writes.

    The rows to be written come from the file `result`, so that reading them is in.
    """
    connection = connect()
    for view in question.views:
        sums = ", ".join([f"sum({KEY})", f"max({EVENT})", f"max({CREATED})", *(f"sum({name})" for name in view.features)])
        connection.execute(f"SELECT {sums} FROM read_parquet('{view.files}')").fetchall()
    write(connection, f"SELECT * FROM read_parquet('{result}')", out)


def duckdb_copy(question: Question, out: str) -> None:
    """DuckDB reads a source and writes the same rows, as a materialization does."""
    [view] = question.views
    columns = ", ".join([KEY, EVENT, CREATED, *view.features])
    write(connect(), f"SELECT {columns} FROM read_parquet('{view.files}')", out)


def polars_join(question: Question, out: str, order: list[str]) -> None:
    """Polars sorts both sides, and joins them; of rows with equal event times the last one counts."""
    import polars as pl

    rows = pl.scan_parquet(question.entity_rows).sort(EVENT)
    for view in question.views:
        features = (
            pl.scan_parquet(view.files)
            .select(KEY, *order, *view.features)
            .sort(order, maintain_order=True)
            .select(KEY, EVENT, *view.features)
        )
        tolerance = None if view.ttl_days is None else f"{view.ttl_days}d"
        rows = rows.join_asof(
            features, on=EVENT, by=KEY, strategy="backward", tolerance=tolerance, check_sortedness=False
        )
    # Its streaming engine takes less memory for this, and more time.
    rows.collect(engine="in-memory").write_parquet(out, compression="snappy")


def polars_asof(question: Question, out: str) -> None:
    """Polars; ties are answered by stored order."""
    polars_join(question, out, [EVENT])


def polars_ties(question: Question, out: str) -> None:
    """Polars; ties are answered by created time."""
    polars_join(question, out, [EVENT, CREATED])


def feast_store(question: Question, out: str):
    """A Feast store beside the result, on its DuckDB offline store. Nothing of it is kept between processes but its registry."""
    from feast import FeatureStore, RepoConfig

    folder = os.path.dirname(out)
    return FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=f"{folder}/feast-registry.db",
            offline_store={"type": "duckdb"},
            online_store={"type": "sqlite", "path": f"{folder}/feast-online.db"},
            entity_key_serialization_version=3,
        )
    )


def feast_apply(question: Question, out: str) -> None:
    """Declares the views to Feast. Not timed."""
    import datetime

    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.data_format import ParquetFormat
    from feast.types import Float64

    entity = Entity(name="entity", join_keys=[KEY], value_type=ValueType.INT64)
    views = [
        FeatureView(
            name=view.name,
            entities=[entity],
            ttl=datetime.timedelta(days=view.ttl_days or 0),
            schema=[Field(name=feature, dtype=Float64) for feature in view.features],
            source=FileSource(
                name=f"{view.name}_source",
                path=view.files,
                file_format=ParquetFormat(),
                timestamp_field=EVENT,
                created_timestamp_column=CREATED,
            ),
        )
        for view in question.views
    ]
    feast_store(question, out).apply([entity, *views])


def feast(question: Question, out: str) -> None:
    """Feast's get_historical_features, and its result as Parquet."""
    import pandas
    import pyarrow.parquet as pq

    references = [f"{view.name}:{feature}" for view in question.views for feature in view.features]
    job = feast_store(question, out).get_historical_features(
        entity_df=pandas.read_parquet(question.entity_rows), features=references
    )
    pq.write_table(job.to_arrow(), out, compression="snappy")


SIDES = [duckdb_asof, duckdb_ties, reference, duckdb_scan, duckdb_copy, polars_asof, polars_ties, feast_apply, feast]


if __name__ == "__main__":
    side, asked, *rest = sys.argv[1:]
    {function.__name__: function for function in SIDES}[side](Question.load(asked), *rest)
