"""Compares two results cell by cell, in a process of its own.

    python benches/pit/equal.py OURS THEIRS [EVERY]          two results of one question; with EVERY, each EVERY-th row alone
    python benches/pit/equal.py --same-rows DELTA QUESTION   a Delta table against the source that it was made from
    python benches/pit/equal.py --bytes PATTERN COLUMNS      how many bytes the values have in memory, as Arrow

Prints one JSON object. Rows are matched by the row number that entity rows carry; floats must be equal bit by bit.
"""

import json
import sys

from question import CREATED, EVENT, KEY, ROW, Question


def read(path: str, every: int):
    """The rows of a result whose number is a multiple of `every`; a piece at a time, since a result can be large."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        pieces = []
        for piece in file.iter_batches():
            if every > 1:
                piece = piece.filter(pa.array(piece[ROW].to_numpy() % every == 0))
            pieces.append(piece)
        return pa.Table.from_batches(pieces, file.schema_arrow)


def compare(ours_path: str, theirs_path: str, every: str = "1") -> dict:
    """How many rows differ, and whether ours are in the order of the entity rows."""
    import numpy as np

    ours, theirs = read(ours_path, int(every)), read(theirs_path, int(every))
    numbers = ours[ROW].to_numpy()
    in_order = bool(np.array_equal(numbers, np.arange(len(numbers)) * int(every)))
    ours, theirs = ours.sort_by(ROW), theirs.sort_by(ROW)
    found = {"rows": len(theirs), "rows_of_ours": len(ours), "in_order": in_order}
    if not ours[ROW].equals(theirs[ROW]) or sorted(ours.column_names) != sorted(theirs.column_names):
        return found | {"rows_differing": max(len(ours), len(theirs)), "columns_differing": ["rows or columns missing"]}
    differing = np.zeros(len(theirs), dtype=bool)
    columns = []
    for name in theirs.column_names:
        column = differences(ours[name], theirs[name])
        differing |= column
        if column.any():
            columns.append(name)
    features = [theirs[name] for name in theirs.column_names if name not in (ROW, KEY, EVENT)]
    cells = sum(len(column) for column in features)
    filled = sum(len(column) - column.null_count for column in features) / max(cells, 1)
    return found | {"rows_differing": int(differing.sum()), "columns_differing": columns, "filled": filled}


def differences(ours, theirs):
    """Which rows of a column differ."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    ours = ours.cast(theirs.type)
    if pa.types.is_float64(theirs.type):
        # By their bits: a zero and a negative zero differ, a NaN is itself.
        ours, theirs = (pa.chunked_array(c.view(pa.int64()) for c in x.chunks) for x in (ours, theirs))
    if ours.equals(theirs):
        return np.zeros(len(theirs), dtype=bool)
    if pa.types.is_nested(theirs.type):
        return np.array([a != b for a, b in zip(ours.to_pylist(), theirs.to_pylist())])
    unlike_values = pc.fill_null(pc.not_equal(ours, theirs), False)
    return pc.or_(unlike_values, pc.not_equal(ours.is_null(), theirs.is_null())).to_numpy()


def same_rows(delta: str, question_path: str) -> dict:
    """Whether a Delta table holds the rows of a source, in any order: their number, and a sum of hashes over all columns."""
    import deltalake
    import duckdb

    [view] = Question.load(question_path).views
    columns = ", ".join([KEY, EVENT, CREATED, *view.features])
    files = ", ".join(f"'{uri.removeprefix('file://')}'" for uri in deltalake.DeltaTable(delta).file_uris())
    found = [
        duckdb.sql(f"SELECT count(*), sum(hash({columns})) FROM read_parquet({source})").fetchall()[0]
        for source in (f"[{files}]", f"'{view.files}'")
    ]
    return {"rows": found[1][0], "equal": found[0] == found[1]}


def arrow_bytes(pattern: str, columns: str) -> dict:
    """The size of some columns of Parquet files in memory."""
    import glob

    import pyarrow.parquet as pq

    size = 0
    for path in glob.glob(pattern):
        with pq.ParquetFile(path) as file:
            size += sum(batch.nbytes for batch in file.iter_batches(columns=columns.split(",")))
    return {"bytes": size}


if __name__ == "__main__":
    modes = {"--same-rows": same_rows, "--bytes": arrow_bytes}
    first, *others = sys.argv[1:]
    print(json.dumps(modes[first](*others) if first in modes else compare(first, *others)))
