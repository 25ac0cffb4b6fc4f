"""Runs a process and says what it took: one way for all sides.

The kernel counts a child's peak memory from its fork, so no child seems smaller than this process was when it made it. The runner
therefore loads nothing but the standard library, and data are made and compared in processes of their own.
"""

import dataclasses
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

from question import THREADS


@dataclasses.dataclass(frozen=True)
class Usage:
    """Wall and processor time in seconds, and the peak of resident memory in bytes, of one whole process."""

    wall: float
    cpu: float
    peak: int


# How much of what a failed process said is passed on.
SAID = 400


class Failed(Exception):
    """A process that ended with an error. Its message is the last of what it said."""


@dataclasses.dataclass(frozen=True)
class Side:
    """Who answers, and with which command. `out` is removed before every run, so that all write a new file."""

    name: str
    command: Sequence[str]
    out: pathlib.Path | None = None
    # What must be done before every run, and is not timed.
    prepare: Callable[[], None] | None = None
    environment: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Measured:
    """All runs of a side, or why there are none."""

    runs: list[Usage] = dataclasses.field(default_factory=list)
    failure: str | None = None

    def median(self, what: str) -> float | None:
        """The median of `wall`, `cpu` or `peak`."""
        return statistics.median(getattr(usage, what) for usage in self.runs) if self.runs else None


def keep_to_two_cores() -> str:
    """Keeps this process and all its children to as many cores as the sides have threads. Says what was done."""
    if not hasattr(os, "sched_setaffinity"):
        return f"{THREADS} threads for the peers; this system cannot keep Vintner to as many cores"
    cores = sorted(os.sched_getaffinity(0))[:THREADS]
    os.sched_setaffinity(0, cores)
    return f"all sides on {len(cores)} cores"


def run(command: Sequence[str], environment: dict[str, str] | None = None) -> tuple[Usage, str]:
    """Runs a command to its end. Gives what it took and what it wrote to stdout. An error is `Failed`."""
    limits = {"POLARS_MAX_THREADS": str(THREADS), "OMP_NUM_THREADS": str(THREADS)}
    # Into files, not pipes: nobody has to read them while the process runs, so `wait4` can wait for it alone.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.perf_counter()
        child = subprocess.Popen(command, stdout=out, stderr=err, env=os.environ | limits | (environment or {}))
        _, status, used = os.wait4(child.pid, 0)
        wall = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        stdout, stderr = out.read().decode(errors="replace"), err.read().decode(errors="replace")
    if child.returncode != 0:
        said = " ".join((stderr or stdout).split())
        raise Failed(f"exit code {child.returncode}: {said[-SAID:] or 'it said nothing'}")
    # Kilobytes, but bytes on macOS.
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Usage(wall, used.ru_utime + used.ru_stime, peak), stdout


def in_turn(sides: Sequence[Side], runs: int, say: Callable[[str], None]) -> dict[str, Measured]:
    """Runs all sides once to warm up, then `runs` times one after the other: A B C, A B C. A side that fails is left out."""
    measured = {side.name: Measured() for side in sides}
    for turn in range(runs + 1):
        for side in sides:
            mine = measured[side.name]
            if mine.failure is not None:
                continue
            try:
                usage = once(side)
            except Failed as failure:
                mine.failure = str(failure)
                mine.runs.clear()
                say(f"{side.name}: failed, {failure}")
                continue
            say(f"{side.name}: {usage.wall:.2f} s, {usage.peak / 1e6:.0f} MB" + (" (warm-up)" if turn == 0 else ""))
            if turn > 0:
                mine.runs.append(usage)
    return measured


def once(side: Side) -> Usage:
    """One run of a side."""
    if side.out is not None:
        side.out.unlink(missing_ok=True)
    if side.prepare is not None:
        side.prepare()
    return run(side.command, side.environment)[0]


def machine() -> str:
    """The machine, in one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = "unknown processor"
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    return f"{platform.system()} {platform.machine()}, {model}, {os.cpu_count()} cores, {memory:.0f} GiB"
