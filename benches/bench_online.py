#!/usr/bin/env python3
"""Measures the online path beside an empty gRPC handler, the plain Redis client, redis-benchmark and Feast.

    python benches/bench_online.py --vintner target/release/vintner --load target/release/vintner-bench [--only PART] [--scale 0.01]

`make bench-online` builds the binaries, makes a virtual environment with what benches/requirements.txt names, and calls this with its
Python. All sides share two cores with their clients and with Redis. They run in turn, one round after the other, and a ratio is the
median of the rounds' ratios. With another scale than 1 the page is printed and not written.

Exit code 1: a side failed. A missed target is reported, and is no error.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benches" / "online"))

import processes  # noqa: E402
import repos  # noqa: E402
from cases import HEAD, Row, at_least, at_most, latencies, median  # noqa: E402
from processes import Failed, cpu_seconds, free_port, said  # noqa: E402

PARTS = ["serve", "load", "feast", "registry"]
CONNECTIONS = 32
# redis-benchmark's values, as long as a packed row of 10 float64.
ROW_BYTES = 103
# The yardstick of conditional writes: one row per call, unless the stored one is newer. It is not the store's own script, which
# takes many rows, so that it stays what it is when that one changes.
WRITE_SCRIPT = """
local stored = redis.call('GETRANGE', KEYS[1], 1, 16)
if #stored == 16 then
    local old = {struct.unpack('>I4I4I4I4', stored)}
    local new = {struct.unpack('>I4I4I4I4', string.sub(ARGV[1], 2, 17))}
    for i = 1, 4 do
        if old[i] > new[i] then return 0 end
        if old[i] < new[i] then break end
    end
end
if ARGV[2] == 'gone' then
    redis.call('DEL', KEYS[1])
elseif ARGV[2] == 'forever' then
    redis.call('SET', KEYS[1], ARGV[1])
else
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1
"""


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vintner", type=pathlib.Path, required=True, help="the binary")
    parser.add_argument("--load", type=pathlib.Path, required=True, help="the load generator")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; can be given again [default: all]")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the entities [default: 1, a million]")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of all sides [default: %(default)s]")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each side in each round [default: %(default)s]")
    parser.add_argument("--work", type=pathlib.Path, help="where the data goes [default: the system's temporary folder]")
    parser.add_argument("--report", type=pathlib.Path, help="the Markdown file to write [default: none, print only]")
    return parser.parse_args()


@dataclasses.dataclass
class Bench:
    """One run of the benchmark: where things are, and what has been found."""

    args: argparse.Namespace
    work: pathlib.Path
    stack: contextlib.ExitStack
    entities: int
    sides: dict[str, list[dict]] = dataclasses.field(default_factory=dict)
    rows: list[Row] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def small(self) -> int:
        """Entities of the small source."""
        return min(repos.SMALL, self.entities)

    def data(self) -> tuple[pathlib.Path, pathlib.Path]:
        """The two source files."""
        whole, small = self.work / "data.parquet", self.work / "small.parquet"
        if not whole.exists():
            said([sys.executable, "-c", repos.DATA, str(self.entities), str(whole)])
            said([sys.executable, "-c", repos.DATA, str(self.small), str(small)])
        return whole, small

    def redis(self) -> int:
        """A new Redis; its port."""
        running, port = processes.redis(self.work)
        self.stack.enter_context(running)
        return port

    def vintner(self, name: str, store: dict, **how: object) -> list[str]:
        """A repo, applied; the beginning of its commands."""
        folder = self.work / name
        repos.vintner(folder, *self.data(), store, **how)
        command = [str(self.args.vintner), "--repo", str(folder)]
        said([*command, "apply", "--yes"])
        return command

    def serve(self, command: list[str], name: str) -> tuple[str, int]:
        """A running service; its URL and its process."""
        port = free_port()
        listen = [*command, "serve", "--listen", f"127.0.0.1:{port}"]
        child = self.stack.enter_context(processes.server(listen, port, self.work / f"{name}.log"))
        return f"http://127.0.0.1:{port}", child.pid

    def empty(self, name: str, *flags: str) -> tuple[str, int]:
        """The empty handler; its URL and its process."""
        port = free_port()
        listen = [str(self.args.load), "empty", "--listen", f"127.0.0.1:{port}", *flags]
        child = self.stack.enter_context(processes.server(listen, port, self.work / f"{name}.log"))
        return f"http://127.0.0.1:{port}", child.pid

    def ask(self, side: str, *words: str, process: int | None = None, entities: int | None = None, **flags: object) -> dict:
        """Runs the load generator once, and keeps what it says under the side's name."""
        given = {"connections": CONNECTIONS, "seconds": self.args.seconds, "entities": entities or self.entities} | flags
        command = [str(self.args.load), *words]
        for flag, value in given.items():
            command += [f"--{flag.replace('_', '-')}", str(value)]
        before = cpu_seconds(process) if process else 0.0
        began = time.perf_counter()
        figures = json.loads(said(command))
        if process and "rate" not in flags:
            # The warm-up uses the processor at the same rate.
            asked = figures["requests_per_s"] * (time.perf_counter() - began)
            figures["cpu_us"] = (cpu_seconds(process) - before) / asked * 1e6
        self.sides.setdefault(side, []).append(figures)
        return figures

    def rounds(self, *sides: Callable[[], object]) -> None:
        """All sides in turn, as many times as there are rounds, every other time backwards."""
        for number in range(self.args.rounds):
            for side in sides if number % 2 == 0 else reversed(sides):
                side()


def serve_part(bench: Bench) -> None:
    """Reads through the service beside the empty handler and the plain client."""
    port = bench.redis()
    redis_url = f"redis://127.0.0.1:{port}"
    on_redis = bench.vintner("on-redis", {"type": "redis", "url": redis_url})
    embedded = bench.vintner("embedded", {"type": "embedded", "path": ".vintner/online"}, near_cache=False)
    for command in (on_redis, embedded):
        said([*command, "materialize"])
    empty, empty_pid = bench.empty("empty")
    floor, floor_pid = bench.empty("floor", "--redis", redis_url)
    ours, ours_pid = bench.serve(on_redis, "on-redis")
    local, local_pid = bench.serve(embedded, "embedded")
    bench.ask("near cache, 1 entity", "grpc", "--service", "near", url=ours, entities=bench.small, batch=1000, seconds=3)
    bench.sides.clear()
    raw = ("redis", "--url", redis_url)
    bench.rounds(
        lambda: bench.ask("empty handler, 1 entity", "grpc", url=empty, process=empty_pid),
        lambda: bench.ask("Redis through the service, 1 entity", "grpc", url=ours, process=ours_pid),
        lambda: bench.ask("Redis through streams, 1 entity", "grpc", "--stream", url=ours, process=ours_pid),
        lambda: bench.ask("empty handler that asks Redis, 1 entity", "grpc", url=floor, process=floor_pid),
        lambda: bench.ask("redis crate GET", *raw),
        lambda: bench.ask("near cache, 1 entity", "grpc", "--service", "near", url=ours, process=ours_pid, entities=bench.small),
        lambda: bench.ask("embedded, 1 entity", "grpc", url=local, process=local_pid),
    )
    bench.rounds(
        lambda: bench.ask("empty handler, 100 entities", "grpc", url=empty, process=empty_pid, batch=100),
        lambda: bench.ask("Redis through the service, 100 entities", "grpc", url=ours, process=ours_pid, batch=100),
        lambda: bench.ask("Redis through streams, 100 entities", "grpc", "--stream", url=ours, process=ours_pid, batch=100),
        lambda: bench.ask("empty handler that asks Redis, 100 entities", "grpc", url=floor, process=floor_pid, batch=100),
        lambda: bench.ask("redis crate MGET 100", *raw, batch=100),
        lambda: bench.ask("near cache, 100 entities", "grpc", "--service", "near", url=ours, process=ours_pid, entities=bench.small, batch=100),
        lambda: bench.ask("embedded, 100 entities", "grpc", url=local, process=local_pid, batch=100),
    )
    bench.rounds(
        lambda: bench.ask("1 view, 1 connection", "grpc", "--service", "one", url=ours, entities=bench.small, connections=1),
        lambda: bench.ask("5 views, 1 connection", "grpc", "--service", "five", url=ours, entities=bench.small, connections=1),
    )
    half = median(bench.sides["Redis through the service, 1 entity"], "requests_per_s") / 2
    bench.rounds(
        lambda: bench.ask(f"Redis through the service, open loop at {half:,.0f}/s", "grpc", url=ours, rate=half),
        lambda: bench.ask(f"empty handler, open loop at {half:,.0f}/s", "grpc", url=empty, rate=half),
        lambda: bench.ask(f"empty handler that asks Redis, open loop at {half:,.0f}/s", "grpc", url=floor, rate=half),
        lambda: bench.ask(f"redis crate GET, open loop at {half:,.0f}/s", *raw, rate=half),
    )
    side = bench.sides
    rate, keys = "requests_per_s", "entities_per_s"
    one, many = side["empty handler, 1 entity"], side["empty handler, 100 entities"]
    through = side["Redis through the service, 1 entity"]
    through_many = side["Redis through the service, 100 entities"]
    bench.rows += [
        at_least("1 entity from Redis, 32 connections", "empty handler", through, one, rate, 0.75, "req/s"),
        at_least("the same", "redis crate, GET", through, side["redis crate GET"], rate, 0.4, "req/s"),
        at_least(
            "the same, over a stream for each connection",
            "redis crate, GET",
            side["Redis through streams, 1 entity"],
            side["redis crate GET"],
            rate,
            0.4,
            "req/s",
        ),
        at_least("the same, near cache warm", "empty handler", side["near cache, 1 entity"], one, rate, 0.9, "req/s"),
        at_least("100 entities from Redis", "redis crate, MGET", through_many, side["redis crate MGET 100"], keys, 0.85, "keys/s"),
        at_least(
            "the same, over a stream for each connection",
            "redis crate, MGET",
            side["Redis through streams, 100 entities"],
            side["redis crate MGET 100"],
            keys,
            0.85,
            "keys/s",
        ),
        at_most("1 entity, 5 views, p50", "1 view", side["5 views, 1 connection"], side["1 view, 1 connection"], "p50_us", 1.3),
        at_most(
            "p99 at half of the highest rate, open loop",
            "redis crate at that rate",
            side[f"Redis through the service, open loop at {half:,.0f}/s"],
            side[f"redis crate GET, open loop at {half:,.0f}/s"],
            "p99_us",
            3.0,
        ),
        at_least("embedded, 1 entity", "empty handler", side["embedded, 1 entity"], one, rate, 0.85, "req/s"),
        at_least("embedded, 100 entities", "empty handler", side["embedded, 100 entities"], many, rate, 0.6, "req/s"),
    ]


def load_part(bench: Bench) -> None:
    """Loads of Redis from the Delta table beside redis-benchmark."""
    port = bench.redis()
    cli = ["redis-cli", "-p", str(port)]
    command = bench.vintner("load", {"type": "redis", "url": f"redis://127.0.0.1:{port}"}, near_cache=False)
    said([*command, "materialize", "wide"])
    digest = said([*cli, "SCRIPT", "LOAD", WRITE_SCRIPT]).strip()
    rows: dict[str, list[dict]] = {}

    def materialize(name: str) -> None:
        before = time.perf_counter()
        child = subprocess.Popen([*command, "materialize", "wide"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        _, status, used = os.wait4(child.pid, 0)
        took = time.perf_counter() - before
        if status != 0:
            raise Failed((child.stderr.read() if child.stderr else b"").decode()[-400:])
        keys = int(said([*cli, "DBSIZE"]))
        if keys < bench.entities:
            raise Failed(f"{keys} keys are there after a load of {bench.entities}")
        scale = 1024 if sys.platform == "linux" else 1
        rows.setdefault(name, []).append({"keys_per_s": bench.entities / took, "peak": used.ru_maxrss * scale})

    def benchmark(name: str, *words: str) -> None:
        count = str(bench.entities)
        out = said(["redis-benchmark", "-p", str(port), "-c", "32", "-P", "64", "-n", count, "-r", count, "--csv", *words])
        rows.setdefault(name, []).append({"keys_per_s": float(out.strip().splitlines()[-1].split(",")[1].strip('"'))})

    def again() -> None:
        said([*cli, "DEL", "vn:progress:bench:wide@1"])
        materialize("again")

    def fresh() -> None:
        said([*cli, "FLUSHALL", "SYNC"])
        materialize("empty")

    value = "\x01" + "x" * (ROW_BYTES - 1)
    bench.rounds(
        fresh,
        again,
        lambda: benchmark("set", "SET", "key:__rand_int__", value),
        lambda: benchmark("evalsha", "EVALSHA", digest, "1", "key:__rand_int__", value, "forever"),
    )
    peak = max(run["peak"] for run in rows["empty"])
    bench.rows += [
        at_least("load into an empty Redis", "redis-benchmark SET -P 64", rows["empty"], rows["set"], "keys_per_s", 0.5, "keys/s"),
        at_least("load again, all keys there", "redis-benchmark EVALSHA -P 64", rows["again"], rows["evalsha"], "keys_per_s", 0.9, "keys/s"),
        Row("memory of the load", "", f"{peak / 1e6:,.0f} MB", "", None, "< 500 MB", peak < 500e6),
    ]


def feast_part(bench: Bench) -> None:
    """Feast's server with its best options, beside ours."""
    port = bench.redis()
    on_redis = bench.vintner("beside-feast", {"type": "redis", "url": f"redis://127.0.0.1:{port}"}, near_cache=False)
    said([*on_redis, "materialize", "wide"])
    ours, _ = bench.serve(on_redis, "beside-feast")
    folder, feast_port = bench.work / "feast", bench.redis()
    repos.feast(folder, bench.data()[0], feast_port)
    binary = str(pathlib.Path(sys.executable).parent / "feast")
    said([binary, "apply"], cwd=folder)
    began = time.perf_counter()
    said([binary, "materialize", "2020-01-01T00:00:00", "2030-01-01T00:00:00"], cwd=folder)
    took = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    bench.notes.append(f"Feast loads {bench.entities / took:,.0f} entities/s and needs {peak / 1e9:.1f} GB for it.")
    listen = free_port()
    options = ["--workers", "2", "--no-access-log", "--max-requests", "0", "--max-requests-jitter", "0", "-r", "3600"]
    command = [binary, "serve", "-h", "127.0.0.1", "-p", str(listen), *options]
    bench.stack.enter_context(processes.server(command, listen, bench.work / "feast.log", folder))
    time.sleep(5)  # Its workers load the registry after the port is there.
    address = f"127.0.0.1:{listen}"
    for batch in (1, 100):
        bench.rounds(
            lambda batch=batch: bench.ask(f"Vintner beside Feast, batch {batch}", "grpc", url=ours, batch=batch),
            lambda batch=batch: bench.ask(f"Feast, batch {batch}", "feast", address=address, batch=batch),
        )
    for batch, rate, tail in ((1, 15, 30), (100, 40, 40)):
        mine, other = bench.sides[f"Vintner beside Feast, batch {batch}"], bench.sides[f"Feast, batch {batch}"]
        bench.rows += [
            at_least(f"batch {batch}, 32 connections", "feast serve, 2 workers", mine, other, "requests_per_s", rate, "req/s"),
            at_most(f"batch {batch}, p99", "feast serve, 2 workers", mine, other, "p99_us", 1 / tail),
        ]


def registry_part(bench: Bench) -> None:
    """A registry of 10,000 views beside one of a few."""
    urls = []
    for name, views in (("few", 1), ("many", max(1, int(10_000 * bench.args.scale)))):
        command = bench.vintner(name, {"type": "embedded", "path": ".vintner/online"}, views=views, near_cache=False)
        said([*command, "materialize", "part0"])
        urls.append(bench.serve(command, name)[0])
    few, many = urls
    asked = {"entities": bench.small, "connections": 1}
    bench.rounds(
        lambda: bench.ask("registry of a few views, 1 connection", "grpc", "--service", "one", url=few, **asked),
        lambda: bench.ask("registry of 10,000 views, 1 connection", "grpc", "--service", "one", url=many, **asked),
    )
    ours, theirs = bench.sides["registry of 10,000 views, 1 connection"], bench.sides["registry of a few views, 1 connection"]
    bench.rows.append(at_most("one view of 10,000, p50", "one view of a few", ours, theirs, "p50_us", 1.05))


def page(bench: Bench, began: float) -> str:
    """The report."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    versions = [said(["redis-server", "--version"]).split()[2].removeprefix("v=")]
    parts = bench.args.only or PARTS
    only = "" if parts == PARTS else f' ARGS="{" ".join(f"--only {part}" for part in parts)}"'
    lines = [
        "# Online reads and loads",
        "",
        f"Written by `make bench-online{only}`, commit {commit}, {time.strftime('%Y-%m-%d')}, {platform.system()} {platform.machine()}, "
        f"two cores for all sides together, Redis {versions[0]}; {bench.args.rounds} rounds of {bench.args.seconds:g} s, "
        f"{bench.entities:,} entities of 10 float64 features. The run took {(time.time() - began) / 60:.0f} minutes.",
        "",
        "A ratio is the median of the rounds' ratios. [README.md](README.md) says what the sides do and where the time goes.",
        "",
        HEAD,
        *[row.markdown() for row in bench.rows],
        "",
        *[note + "\n" for note in bench.notes],
        "## All figures",
        "",
        "Medians of the rounds. Latencies are what the caller waits, from an HDR histogram; in an open loop they count from when the",
        "request was due. CPU is the service's own, not the client's and not Redis's.",
        "",
        latencies(bench.sides),
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Runs the parts, and reports."""
    args = arguments()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    began = time.time()
    work = pathlib.Path(tempfile.mkdtemp(prefix="vintner-bench-online-", dir=args.work)).resolve()
    args.vintner, args.load = args.vintner.resolve(), args.load.resolve()
    parts = {"serve": serve_part, "load": load_part, "feast": feast_part, "registry": registry_part}
    good, found = True, Bench(args, work, contextlib.ExitStack(), max(1000, int(1_000_000 * args.scale)))
    try:
        for part in args.only or PARTS:
            # A part's servers end with it.
            with contextlib.ExitStack() as stack:
                bench = dataclasses.replace(found, stack=stack, sides={}, rows=[], notes=[])
                try:
                    parts[part](bench)
                except (Failed, OSError, KeyError, ValueError) as failure:
                    good = False
                    found.notes.append(f"The part `{part}` failed: {failure!r}")
                found.sides |= bench.sides
                found.rows += bench.rows
                found.notes += bench.notes
        text = page(found, began)
        if args.report and args.scale == 1:
            args.report.write_text(text)
        print(text)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
