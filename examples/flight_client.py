#!/usr/bin/env python3
"""A training job that gets its rows over Arrow Flight. Needs pyarrow: `pip install pyarrow`.

    vintner --now 2013-12-30T18:00:00Z serve &
    python examples/flight_client.py [--server grpc://127.0.0.1:7600] [--out out/flight.parquet]

`DoExchange` takes a command (JSON, in the descriptor) and the entity rows, and gives the training rows back, both as streams. The
last message of the answer says what the join has found: an answer that ends without it is not whole. docs/api.md has the rest.
"""

import argparse
import concurrent.futures
import json
import pathlib

import pyarrow as pa
import pyarrow.flight
import pyarrow.parquet

REPO = pathlib.Path(__file__).resolve().parent.parent / "feature_repo"


def get_historical(client: pa.flight.FlightClient, command: dict, entity_rows: pa.Table) -> tuple[pa.Table, dict]:
    """The training rows, and what the join has found."""
    descriptor = pa.flight.FlightDescriptor.for_command(json.dumps({"get_historical": command}))
    writer, reader = client.do_exchange(descriptor)

    def send() -> None:
        writer.begin(entity_rows.schema)
        writer.write_table(entity_rows, max_chunksize=10_000)
        writer.done_writing()

    # The answer is read while the rows are sent, so that neither side waits with full hands for the other.
    with concurrent.futures.ThreadPoolExecutor(1) as pool, writer:
        sending = pool.submit(send)
        batches, report = [], None
        for chunk in reader:
            batches.append(chunk.data)
            if chunk.app_metadata is not None:
                report = json.loads(chunk.app_metadata.to_pybytes())["report"]
        sending.result()
    if report is None:
        raise RuntimeError("the answer ended before its report: it is not whole")
    return pa.Table.from_batches(batches), report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="grpc://127.0.0.1:7600")
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()

    flights = pa.parquet.read_table(REPO / "data" / "flights.parquet")
    command = {"service": "delay_model", "timestamp_column": "sched_dep_at"}
    with pa.flight.connect(args.server) as client:
        training_rows, report = get_historical(client, command, flights)
    print(f"{training_rows.num_rows:,} rows, {training_rows.num_columns} columns")
    for view, rows in report["rows_matched"].items():
        print(f"  {view}: {rows:,} rows found a value")
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        pa.parquet.write_table(training_rows, args.out)
        print(f"written to {args.out}")


if __name__ == "__main__":
    main()
