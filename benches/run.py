#!/usr/bin/env python3
"""Times the main job on the demo's data, and prints a table with the machine, the commit and the command.

    python3 benches/run.py --vintner target/release/vintner --online-bench target/release/examples/online_latency

`make bench` builds both and calls this. Needs Python alone. The stores are in a new folder under --work, which is removed at the
end; the online store is the embedded one. Each question is asked `--runs` times (once, where the answer changes the state), and
the median and the worst are given. Clock: the wall's, around the whole process; so start-up and opening the stores count.
"""

import argparse
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The moment at which the demo's data is complete but for its last day and a half, as in scripts/demo.sh.
CLOCK = "2013-12-30T18:00:00Z"
# Ten flights of about that moment.
ENTITIES = [
    f"origin={origin},dest={dest},carrier={carrier},tailnum={tailnum}"
    for origin, dest, carrier, tailnum in [
        ("LGA", "DFW", "AA", "N3BKAA"),
        ("LGA", "CLT", "US", "N170US"),
        ("LGA", "MIA", "AA", "N3LEAA"),
        ("LGA", "CMH", "MQ", "N816MQ"),
        ("EWR", "ORD", "UA", "N17104"),
        ("LGA", "DCA", "US", "N946UW"),
        ("LGA", "ATL", "DL", "N981DL"),
        ("EWR", "ATL", "DL", "N935AT"),
        ("JFK", "SFO", "DL", "N718TW"),
        ("JFK", "BTV", "B6", "N298JB"),
    ]
]


class Bench:
    def __init__(self, vintner: pathlib.Path, repo: pathlib.Path, runs: int):
        self.vintner, self.repo, self.runs = str(vintner), repo, runs
        self.rows: list[tuple[str, str, str]] = []

    def command(self, *args: str) -> list[str]:
        return [self.vintner, "--repo", str(self.repo), *args]

    def once(self, *args: str) -> tuple[float, str]:
        began = time.perf_counter()
        done = subprocess.run(self.command(*args), capture_output=True, text=True)
        took = time.perf_counter() - began
        if done.returncode != 0:
            sys.exit(f"`vintner {' '.join(args)}` failed:\n{done.stderr}")
        return took, done.stdout

    def timed(self, question: str, *args: str) -> None:
        times = [self.once(*args)[0] for _ in range(self.runs)]
        self.rows.append((question, milliseconds(statistics.median(times)), f"worst of {self.runs}: {milliseconds(max(times))}"))

    def note(self, question: str, answer: str, remark: str = "") -> None:
        self.rows.append((question, answer, remark))


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"


def materialization(bench: Bench) -> None:
    took, out = bench.once("--now", CLOCK, "--format", "json", "materialize")
    runs = json.loads(out)
    for run in runs:
        offline = rate(run["rows_written"], run["offline_micros"])
        online = rate(run["online_written"], run["online_micros"])
        bench.note(
            f"materialize {run['view']}",
            milliseconds((run["offline_micros"] + run["online_micros"]) / 1e6),
            f"offline {run['rows_written']:,} rows, {offline}; online {run['online_written']:,} rows, {online}",
        )
    bench.note("materialize, all views, first run", milliseconds(took))
    bench.timed("materialize, all views, nothing new", "--now", CLOCK, "materialize")


def rate(rows: int, micros: int) -> str:
    return f"{rows / micros * 1e6:,.0f} rows/s" if micros else "-"


def joins(bench: Bench) -> None:
    flights = str(bench.repo / "data" / "flights.parquet")
    for extension in ("parquet", "arrow"):
        out = str(bench.repo / f"training.{extension}")
        bench.timed(
            f"get-historical, 336,776 flights, all views, to {extension}",
            *("--now", CLOCK, "get-historical", "--service", "delay_model", "--entity-rows", flights),
            *("--timestamp-column", "sched_dep_at", "--out", out),
        )


def online(bench: Bench, tool: pathlib.Path) -> None:
    with subprocess.Popen(
        bench.command("--now", CLOCK, "serve", "--listen", "127.0.0.1:0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            url = server.stdout.readline().split()[-1]
            for concurrency, batch in [(1, 1), (1, 100), (32, 1)]:
                load = ["--concurrency", str(concurrency), "--batch", str(batch)]
                done = subprocess.run(
                    [str(tool), *load, url, "delay_model", *ENTITIES], capture_output=True, text=True
                )
                if done.returncode != 0:
                    sys.exit(f"{tool} failed:\n{done.stderr}")
                # Lines of a name and a number, as in `p50    128 us`.
                found = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in done.stdout.splitlines())
                bench.note(
                    f"get-online over gRPC, {concurrency} at a time, {batch} entities each",
                    f"p50 {found['p50']}, p99 {found['p99']}",
                    f"{found['requests/s']} requests/s",
                )
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=30)


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"


def commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vintner", type=pathlib.Path, required=True)
    parser.add_argument("--online-bench", type=pathlib.Path, required=True)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--work", type=pathlib.Path, help="where the stores go [default: the system's temporary folder]")
    args = parser.parse_args()

    work = pathlib.Path(tempfile.mkdtemp(prefix="vintner-bench-", dir=args.work))
    try:
        repo = work / "feature_repo"
        shutil.copytree(ROOT / "feature_repo", repo, ignore=shutil.ignore_patterns(".vintner"))
        bench = Bench(args.vintner.resolve(), repo, args.runs)
        bench.note("size of the binary", f"{args.vintner.stat().st_size / 2**20:,.1f} MiB")
        bench.timed("--help", "--help")
        bench.timed("check", "check")
        took, _ = bench.once("--now", CLOCK, "apply", "--yes")
        bench.note("apply, first", milliseconds(took))
        materialization(bench)
        joins(bench)
        online(bench, args.online_bench.resolve())
    finally:
        shutil.rmtree(work)

    print(f"{machine()}; commit {commit()}; median of {args.runs} runs\n")
    print("| question | answer | |\n| --- | --- | --- |")
    for row in bench.rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
