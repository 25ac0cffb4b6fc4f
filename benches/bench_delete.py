#!/usr/bin/env python3
"""Times `delete` of 1 and of 1,000 entities from a view of a million rows, and prints a table.

    python3 benches/bench_delete.py --vintner target/release/vintner

`make bench-delete` builds the binary and calls this. Needs Python alone. Everything is in a new folder under --work, which is removed
at the end; the online store is the embedded one. 100,000 entities have ten rows each, of four features, which come by one run. Each
deletion takes entities that were not deleted before, spread evenly over all. Clock: the deletion's own, from its begin to the
last online row; the median, the fastest and the slowest of --runs.
"""

import argparse
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

ENTITIES = 100_000
CLOCK = "2026-01-02T00:00:00Z"
FEATURES = """\
kind: entity
name: customer
join_keys: {customer_id: int64}
---
kind: source
name: readings
path: readings.csv
event_timestamp: at
---
kind: feature_view
name: readings
entities: [customer]
source: readings
features:
  a: {type: float64}
  b: {type: float64}
  c: {type: float64}
  d: {type: float64}
"""
DEPLOYMENT = """\
project: bench
registry: .vintner/registry
offline_store: .vintner/offline
online_store: {type: embedded, path: .vintner/online}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--vintner", type=pathlib.Path, required=True, help="the binary")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the view [default: 1000000]")
    parser.add_argument("--runs", type=int, default=5, help="deletions of each size [default: 5]")
    parser.add_argument("--work", type=pathlib.Path, help="where the folder is made [default: the system's]")
    options = parser.parse_args()
    vintner = options.vintner.resolve()
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        repo = pathlib.Path(folder)
        (repo / "vintner.yaml").write_text(DEPLOYMENT)
        (repo / "features.yaml").write_text(FEATURES)
        write_rows(repo / "readings.csv", options.rows)

        def run(*args: str) -> str:
            command = [str(vintner), "--repo", folder, "--now", CLOCK, "--format", "json", *args]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(f"`vintner {' '.join(args)}` failed:\n{done.stderr}")
            return done.stdout

        run("apply", "--yes")
        run("materialize")
        present = list(range(ENTITIES))
        random.Random(7).shuffle(present)
        for layout in ("as the run wrote it", "after `compact`"):
            if layout != "as the run wrote it":
                run("compact")
            for count in (1, 1000):
                times, view = [], {}
                for _ in range(options.runs):
                    gone, present = present[:count], present[count:]
                    file = repo / "gone.csv"
                    file.write_text("customer_id\n" + "".join(f"{id}\n" for id in gone))
                    told = run("delete", "readings", "--entity-rows", str(file), "--yes")
                    view = json.loads(told)["views"][0]
                    if view["found"] != count:
                        sys.exit(f"{view['found']} of {count} entities were found")
                    times.append(view["micros"] / 1000)
                print(
                    f"{layout}: entities {count:,}, rows {view['rows']:,}, files written again {view['files_removed']}: "
                    f"{statistics.median(times):,.0f} ms ({min(times):,.0f} to {max(times):,.0f})"
                )


def write_rows(path: pathlib.Path, rows: int) -> None:
    chance = random.Random(1)
    with path.open("w") as file:
        file.write("customer_id,at,a,b,c,d\n")
        for row in range(rows):
            seconds = row * 86_400 // rows
            at = f"2026-01-01T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{row % 1_000_000:06}Z"
            values = ",".join(f"{chance.random():.9f}" for _ in range(4))
            file.write(f"{row % ENTITIES},{at},{values}\n")


main()
