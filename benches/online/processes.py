"""Servers that a run starts and stops: redis-server, the service, Feast, and the empty handler."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence

PATIENCE = 60.0


class Failed(Exception):
    """A process that did not do what it should. Its message is the last of what it said."""


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait_for(port: int, log: pathlib.Path) -> None:
    """Waits until somebody accepts connections."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise Failed(f"nobody listens on {port}\n{log.read_text()[-400:]}")


@contextlib.contextmanager
def server(command: Sequence[str], port: int, log: pathlib.Path, cwd: pathlib.Path | None = None) -> Iterator[subprocess.Popen]:
    """A server, with all its own children, for as long as the block runs."""
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=cwd, start_new_session=True)
    try:
        wait_for(port, log)
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def redis(folder: pathlib.Path) -> tuple[contextlib.AbstractContextManager[subprocess.Popen], int]:
    """A redis-server that keeps nothing on disk."""
    port = free_port()
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    return server(command, port, folder / f"redis-{port}.log"), port


def cpu_seconds(process: int) -> float:
    """Processor time that a process has used so far."""
    fields = pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def said(command: Sequence[str], cwd: pathlib.Path | None = None) -> str:
    """Runs a command to its end and gives what it wrote to stdout."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}\n{done.stderr[-400:]}")
    return done.stdout
