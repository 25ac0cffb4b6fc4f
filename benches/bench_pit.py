#!/usr/bin/env python3
"""Measures the point-in-time join and the materialization against DuckDB, Polars and Feast.

    python benches/bench_pit.py --vintner target/release/vintner [--only CASE] [--scale 0.01]

`make bench-pit` builds the binary, makes a virtual environment with what benches/requirements.txt names, and calls this with its
Python. Every case makes its data in a new folder under --work (up to 12 GB at scale 1), runs all sides in turn, compares the
results cell by cell, and removes its data. Its outcome is kept in the folder --results, and the report is made of all outcomes
there, so cases can be run one by one. With another --scale than 1 nothing is kept, and the report is only printed.

Exit code 1: a side failed or a result was wrong. A missed target is reported, and is no error.
"""

import argparse
import os
import pathlib
import shutil
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEFAULT_RUNS = 5
sys.path.insert(0, str(ROOT / "benches" / "pit"))

import measure  # noqa: E402
from case import Case, Outcome, Settings  # noqa: E402
from cases import CASES  # noqa: E402
from report import report  # noqa: E402


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vintner", type=pathlib.Path, required=True, help="the binary")
    parser.add_argument("--only", choices=CASES, action="append", help="this case; can be given again [default: all]")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the numbers of rows; below 1 only equality counts")
    parser.add_argument("--runs", type=int, default=DEFAULT_RUNS, help="runs of each side, after a warm-up [default: %(default)s]")
    parser.add_argument("--work", type=pathlib.Path, help="where the data goes [default: the system's temporary folder]")
    parser.add_argument("--keep", action="store_true", help="keep the data")
    parser.add_argument("--results", type=pathlib.Path, help="where outcomes are kept [default: with the data]")
    parser.add_argument("--report", type=pathlib.Path, help="the Markdown file to write [default: none, print only]")
    return parser.parse_args()


def command(args: argparse.Namespace) -> str:
    """How to do it again: the flags that change what is measured."""
    flags = [f"--only {name}" for name in args.only or []]
    flags += [f"--scale {args.scale:g}"] if args.scale != 1 else []
    flags += [f"--runs {args.runs}"] if args.runs != DEFAULT_RUNS else []
    return "make bench-pit" + (f' ARGS="{" ".join(flags)}"' if flags else "")


def run_case(settings: Settings, name: str) -> Outcome:
    """Runs one case. What stops it is part of its outcome."""
    title, _, setup = (CASES[name].__doc__ or "").partition("\n\n")
    case = Case(settings, name, title.strip(), " ".join(setup.split()))
    try:
        CASES[name](case)
    except measure.Failed as failure:
        case.stopped(str(failure))
    finally:
        case.end()
    return case.outcome


def main() -> int:
    """Runs the cases, and reports."""
    args = arguments()
    cores = f"{measure.keep_to_two_cores()}; load average before the run {os.getloadavg()[0]:.1f}"
    work = pathlib.Path(tempfile.mkdtemp(prefix="vintner-bench-pit-", dir=args.work)).resolve()
    publish = args.scale == 1
    results = args.results if publish and args.results else work / "results"
    results.mkdir(parents=True, exist_ok=True)
    settings = Settings(args.vintner.resolve(), work, args.runs, args.scale, args.keep)
    good = True
    try:
        for name in args.only or CASES:
            outcome = run_case(settings, name)
            outcome.save(results / f"{name}.json")
            good &= outcome.good
        outcomes = [Outcome.load(path) for name in CASES if (path := results / f"{name}.json").exists()]
        text = report(outcomes, measure.machine(), cores, command(args))
    finally:
        if args.keep:
            print(f"The data is in {work}", file=sys.stderr)
        else:
            shutil.rmtree(work)
    if args.report and publish:
        args.report.parent.mkdir(parents=True, exist_ok=True)
        args.report.write_text(text)
    print(text)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
