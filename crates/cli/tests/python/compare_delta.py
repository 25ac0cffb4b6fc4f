#!/usr/bin/env python3
"""Prints a Delta table as a reader that is not ours sees it, in a form that leaves nothing to formatting.

    python compare_delta.py TABLE [--version N] [--without COLUMN ...]

TABLE is a folder. Out, on stdout, one JSON object per line. The first is the table's columns in their order, by their Arrow
types (the several encodings of text and of bytes are one type), with `?` behind a type that may be null:

    {"customer_id": "int64", "event_timestamp": "timestamp[us, UTC]", "plan": "string?"}

Then one line per row, sorted by their text, since a Delta table has no order:

    {"customer_id": 1, "event_timestamp": "2026-01-15T00:00:00Z", "plan": "free"}

Cells: null, true, false and integers as they are; floats in the shortest digits that give the same float back, NaN and infinities
as text; text as it is; bytes as hexadecimal digits; timestamps as RFC 3339 in UTC with as many fraction digits as needed, outside
the years 1 to 9999 as microseconds since 1970 and `us`; lists as arrays of the same.

A type outside of these is an error: the table has something that no feature can have.
"""

import argparse
import datetime
import json
import math
import os
import sys

import deltalake
import pyarrow as pa

EPOCH = datetime.datetime(1970, 1, 1)


def type_name(data_type: pa.DataType) -> str:
    if pa.types.is_string(data_type) or pa.types.is_large_string(data_type) or pa.types.is_string_view(data_type):
        return "string"
    if pa.types.is_binary(data_type) or pa.types.is_large_binary(data_type) or pa.types.is_binary_view(data_type):
        return "bytes"
    if pa.types.is_list(data_type) or pa.types.is_large_list(data_type):
        return f"list<{type_name(data_type.value_type)}>"
    if pa.types.is_timestamp(data_type):
        return f"timestamp[{data_type.unit}, {data_type.tz}]"
    plain = {pa.bool_(): "bool", pa.int32(): "int32", pa.int64(): "int64", pa.float32(): "float32", pa.float64(): "float64"}
    if data_type in plain:
        return plain[data_type]
    raise TypeError(f"no feature has the type {data_type}")


def instant(micros: int | None) -> str | None:
    if micros is None:
        return None
    try:
        moment = EPOCH + datetime.timedelta(microseconds=micros)
    except OverflowError:
        return f"{micros}us"
    fraction = f".{moment.microsecond:06}".rstrip("0") if moment.microsecond else ""
    return f"{moment.replace(microsecond=0).isoformat()}{fraction}Z"


def cells(column: pa.Array) -> list:
    data_type = column.type
    if pa.types.is_timestamp(data_type):
        # By way of the integers: Python's own dates end at the years 1 and 9999.
        return [instant(micros) for micros in column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist()]
    if pa.types.is_floating(data_type):
        return [value if value is None or math.isfinite(value) else str(value) for value in column.to_pylist()]
    if type_name(data_type) == "bytes":
        return [None if value is None else value.hex() for value in column.to_pylist()]
    if type_name(data_type).startswith("list<"):
        return [None if not value.is_valid else cells(value.values) for value in column]
    return column.to_pylist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table")
    parser.add_argument("--version", type=int)
    parser.add_argument("--without", action="append", default=[], metavar="COLUMN")
    args = parser.parse_args()

    table = deltalake.DeltaTable(args.table, version=args.version)
    data = table.to_pyarrow_table().drop_columns(args.without)
    nullable = {field.name: field.nullable for field in table.schema().fields}
    types = {field.name: type_name(field.type) + ("?" if nullable[field.name] else "") for field in data.schema}
    print(json.dumps(types, ensure_ascii=False))
    columns = [cells(column.combine_chunks()) for column in data.columns]
    rows = (dict(zip(data.column_names, row, strict=True)) for row in zip(*columns, strict=True))
    for line in sorted(json.dumps(row, ensure_ascii=False) for row in rows):
        print(line)


if __name__ == "__main__":
    main()
    # All is read and printed. The interpreter's own end is left out: a thread of pyarrow may abort the process in it.
    sys.stdout.flush()
    os._exit(0)
