#!/usr/bin/env python3
"""Prints what whole offline stores hold, as a reader that is not ours sees it.

    python dump_tables.py STORE...

STORE is the folder of an offline store. Out, on stdout, one JSON object per store, in their order: every table of features below
the folder, by its path there. The operational tables under `system/` are left out: they say what ran.

    {"shop/customer_profile/v1": {
        "id": "0b1c…",                               the table's own
        "version": 3,
        "columns": {"customer_id": "int64"},         as compare_delta.py tells them
        "rows": ["{\"customer_id\": 1}"],            likewise, sorted
        "files": [["part-0.parquet", 1]]             the data files that count, in their order in the log, with their rows
    }}
"""

import json
import pathlib
import sys

import deltalake
import pyarrow as pa

from compare_delta import contents, leave


def dump(folder: pathlib.Path) -> dict:
    table = deltalake.DeltaTable(str(folder))
    columns, rows = contents(table, without=[])
    files = pa.table(table.get_add_actions(flatten=True))
    return {
        "id": str(table.metadata().id),
        "version": table.version(),
        "columns": columns,
        "rows": rows,
        "files": list(zip(files["path"].to_pylist(), files["num_records"].to_pylist(), strict=True)),
    }


def main() -> None:
    for store in map(pathlib.Path, sys.argv[1:]):
        logs = sorted(store.rglob("_delta_log"))
        tables = {str(log.parent.relative_to(store)): log.parent for log in logs}
        print(json.dumps({name: dump(folder) for name, folder in tables.items() if not name.startswith("system/")}))


if __name__ == "__main__":
    main()
    leave()
