"""Makes the data of a case: feature files as an append-only table would have them, and entity rows.

    python benches/pit/data.py SPEC.json

A process of its own, since it needs much memory for a moment (at most a few hundred MB, whatever the number of rows). The same
specification gives the same rows: every file has a random generator of its own, seeded with the file's number.

Feature files follow each other in time and are sorted by event time inside. A row becomes known up to 4.8 hours after its event.
No two rows of a table have the same created time and event time, so every question has one answer.
"""

import dataclasses
import datetime
import json
import pathlib
import sys

SEED = 20_240_101
START = int(datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc).timestamp())
DAY = 86_400
# About 100 MB of numbers in one file, whatever its columns.
CELLS_PER_FILE = 12_000_000


@dataclasses.dataclass(frozen=True)
class Rows:
    """How keys and times are drawn.

    `keys`: `uniform`; `half`, one entity has half of all rows; `zipf`, the n-th entity has a share like 1 / n. `times`: `uniform`
    over `days` from `first_day`, in whole seconds; `one`, all rows at the end of the last day. Keys are multiples of `key_step`.
    """

    rows: int
    entities: int
    days: float = 90
    first_day: float = 0
    keys: str = "uniform"
    times: str = "uniform"
    key_step: int = 1


@dataclasses.dataclass(frozen=True)
class FeatureTable:
    """Feature rows and their columns: `kind` is `float64`, `string` (8 to 24 characters) or `list` (0 to 8 float64)."""

    folder: str
    rows: Rows
    columns: int
    kind: str = "float64"


@dataclasses.dataclass(frozen=True)
class EntityRows:
    """Rows to be joined, numbered, in no order of time."""

    path: str
    rows: Rows


def main(spec: str) -> None:
    """Makes what the file describes."""
    fields = json.loads(pathlib.Path(spec).read_text())
    rows = Rows(**fields.pop("rows"))
    if "folder" in fields:
        write_features(FeatureTable(rows=rows, **fields))
    else:
        write_entity_rows(EntityRows(rows=rows, **fields))


def write_features(table: FeatureTable) -> None:
    """Writes the files of a feature table, in the order of time."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from question import CREATED, EVENT, KEY, feature_names

    rows = table.rows
    files = max(1, -(-rows.rows * (table.columns + 3) // CELLS_PER_FILE))
    bounds = [rows.rows * number // files for number in range(files + 1)]
    folder = pathlib.Path(table.folder)
    folder.mkdir(parents=True)
    for number, (first, end) in enumerate(zip(bounds, bounds[1:])):
        generator = np.random.default_rng([SEED, number])
        count = end - first
        events = np.sort(times(generator, rows, count, number / files, (number + 1) / files))
        # A multiplication by an odd number permutes the numbers below a power of two: delays that look random and never repeat.
        delays = (np.arange(first, end, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) % np.uint64(2**34)
        columns = {
            KEY: draw_keys(generator, rows, count),
            EVENT: timestamps(events),
            CREATED: timestamps(events + delays.astype(np.int64)),
        }
        for name in feature_names(table.columns):
            columns[name] = COLUMN_KINDS[table.kind](generator, count)
        pq.write_table(pa.table(columns), folder / f"part-{number:05}.parquet", compression="snappy")


def write_entity_rows(table: EntityRows) -> None:
    """Writes one file of entity rows, a piece at a time."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from question import EVENT, KEY, ROW

    rows = table.rows
    writer = None
    for number, first in enumerate(range(0, rows.rows, 1_000_000)):
        # One more number in the seed than feature files have, so that the two never draw the same.
        generator = np.random.default_rng([SEED, 1, number])
        count = min(1_000_000, rows.rows - first)
        piece = pa.table(
            {
                ROW: np.arange(first, first + count),
                KEY: draw_keys(generator, rows, count),
                EVENT: timestamps(times(generator, rows, count, 0, 1)),
            }
        )
        if writer is None:
            writer = pq.ParquetWriter(table.path, piece.schema, compression="snappy")
        writer.write_table(piece)
    writer.close()


def times(generator, rows: Rows, count: int, begin: float, end: float):
    """Event times in microseconds, in a part of the whole span from `begin` to `end` (0 to 1)."""
    import numpy as np

    first, span = START + int(rows.first_day * DAY), int(rows.days * DAY)
    if rows.times == "one":
        return np.full(count, (first + span) * 1_000_000, dtype=np.int64)
    return generator.integers(first + int(span * begin), first + max(int(span * end), 1), count) * 1_000_000


def draw_keys(generator, rows: Rows, count: int):
    """Join keys, as int64."""
    return draw_entities(generator, rows, count) * rows.key_step


def draw_entities(generator, rows: Rows, count: int):
    """Numbers in 0 to `entities` - 1."""
    import numpy as np

    if rows.keys == "zipf":
        shares = np.cumsum(1 / np.arange(1, rows.entities + 1))
        return np.searchsorted(shares, generator.random(count) * shares[-1]).astype(np.int64)
    drawn = generator.integers(0, rows.entities, count)
    if rows.keys == "half":
        drawn[generator.random(count) < 0.5] = 0
    return drawn


def timestamps(micros):
    """Microseconds as an Arrow column."""
    import pyarrow as pa

    return pa.array(micros).cast(pa.timestamp("us", tz="UTC"))


def floats(generator, count: int):
    """Floats that do not compress."""
    return generator.standard_normal(count)


def strings(generator, count: int):
    """Strings of 8 to 24 letters; hardly any two are the same."""
    import numpy as np
    import pyarrow as pa

    ends = np.concatenate([[0], np.cumsum(generator.integers(8, 25, count))]).astype(np.int32)
    letters = generator.integers(ord("a"), ord("z") + 1, ends[-1], dtype=np.uint8)
    return pa.StringArray.from_buffers(count, pa.py_buffer(ends), pa.py_buffer(letters))


def lists(generator, count: int):
    """Lists of 0 to 8 floats."""
    import numpy as np
    import pyarrow as pa

    ends = np.concatenate([[0], np.cumsum(generator.integers(0, 9, count))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(generator.standard_normal(ends[-1])))


COLUMN_KINDS = {"float64": floats, "string": strings, "list": lists}


if __name__ == "__main__":
    main(sys.argv[1])
