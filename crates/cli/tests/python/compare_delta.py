#!/usr/bin/env python3
"""Prints a Delta table as a reader that is not ours sees it, in a form that leaves nothing to formatting.

    python compare_delta.py TABLE [--version N] [--transaction APPLICATION_ID]

TABLE is a folder. Out, on stdout, one JSON object:

    {"version": 3,
     "transaction": 7,
     "columns": [{"name": "origin", "type": "string", "nullable": false}, ...],
     "rows": [["JFK", 1357020000000000, 1357020000000000, "42188f5c"], ...]}

* version: the table version that was read; transaction: the last version committed under the application id, or null;
* columns: in the table's order, types by their Arrow names; the several encodings of text and of bytes are one type;
* rows: sorted by their JSON text, since a Delta table has no order; a row's cells are
    null, true and false;  integers as numbers;  text as it is;  bytes as hexadecimal digits;
    float32 and float64 as the hexadecimal digits of their bits (8 or 16), so that two floats are equal only when they are;
    timestamps as microseconds since 1970-01-01T00:00:00Z;  lists as arrays of the same.

A type outside of these is an error: the table has something that no feature can have.
"""

import argparse
import json
import struct
import sys

import deltalake
import pyarrow as pa


def type_name(data_type: pa.DataType) -> str:
    if pa.types.is_string(data_type) or pa.types.is_large_string(data_type) or pa.types.is_string_view(data_type):
        return "string"
    if pa.types.is_binary(data_type) or pa.types.is_large_binary(data_type) or pa.types.is_binary_view(data_type):
        return "binary"
    if pa.types.is_list(data_type) or pa.types.is_large_list(data_type):
        return f"list<{type_name(data_type.value_type)}>"
    if pa.types.is_timestamp(data_type):
        return f"timestamp[{data_type.unit}, {data_type.tz}]"
    plain = {pa.bool_(): "bool", pa.int32(): "int32", pa.int64(): "int64", pa.float32(): "float32", pa.float64(): "float64"}
    if data_type in plain:
        return plain[data_type]
    raise TypeError(f"no feature has the type {data_type}")


def cells(column: pa.Array) -> list:
    data_type = column.type
    if pa.types.is_timestamp(data_type):
        # By way of the integers: Python's own dates end at the years 1 and 9999.
        return column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist()
    if pa.types.is_floating(data_type):
        form = ">f" if data_type == pa.float32() else ">d"
        return [None if value is None else struct.pack(form, value).hex() for value in column.to_pylist()]
    if type_name(data_type) == "binary":
        return [None if value is None else value.hex() for value in column.to_pylist()]
    if type_name(data_type).startswith("list<"):
        return [None if not value.is_valid else cells(value.values) for value in column]
    return column.to_pylist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table")
    parser.add_argument("--version", type=int)
    parser.add_argument("--transaction", metavar="APPLICATION_ID")
    args = parser.parse_args()

    table = deltalake.DeltaTable(args.table, version=args.version)
    data = pa.table(table.to_pyarrow_table())
    columns = [cells(column.combine_chunks()) for column in data.columns]
    rows = sorted((list(row) for row in zip(*columns, strict=True)), key=lambda row: json.dumps(row, ensure_ascii=False))
    nullable = {field.name: field.nullable for field in table.schema().fields}
    json.dump(
        {
            "version": table.version(),
            "transaction": table.transaction_version(args.transaction) if args.transaction else None,
            "columns": [
                {"name": field.name, "type": type_name(field.type), "nullable": nullable[field.name]}
                for field in data.schema
            ],
            "rows": rows,
        },
        sys.stdout,
        ensure_ascii=False,
    )


if __name__ == "__main__":
    main()
