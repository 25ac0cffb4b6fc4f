"""Tables of what came out, as Markdown."""

import importlib.metadata
import platform

from case import Check, Line, Outcome

PEERS = ["duckdb", "polars", "feast", "pyarrow"]


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; cells are text."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def number(value: float | None, unit: str = "") -> str:
    """A figure as people read it."""
    if value is None:
        return "-"
    if unit == "MB":
        return f"{value:,.0f} MB"
    return f"{value:.3g}" + (f" {unit}" if unit and unit != "share" else "")


def targets(outcomes: list[Outcome]) -> str:
    """All lines of all cases, with their targets."""
    rows = []
    for outcome in outcomes:
        for line in outcome.lines:
            rows.append([outcome.name, line.what, line.yardstick or "-", *verdict(line, outcome.scale)])
        if outcome.stopped:
            rows.append([outcome.name, "the whole case", "-", "-", "-", "**stopped**"])
    return table(["case", "what", "yardstick", "target", "measured", "verdict"], rows)


def verdict(line: Line, scale: float) -> list[str]:
    """The last three cells of a line. The targets are for scale 1; nothing is judged at another."""
    target = "-" if line.target is None else f"at most {number(line.target, line.unit)}"
    result = f"**{line.verdict}**" if line.verdict == "MISSED" else line.verdict
    return [target, number(line.measured, line.unit), result if scale == 1 else "not judged"]


def equality(outcomes: list[Outcome]) -> str:
    """One sentence on all checks."""
    checks = [(outcome.name, check) for outcome in outcomes for check in outcome.checks if check.must]
    wrong = [f"{name}, {check.side}" for name, check in checks if not check.good]
    if wrong:
        return f"**Wrong results: {'; '.join(wrong)}.** A figure of a wrong result counts for nothing."
    if not checks:
        return "**No result was compared.**"
    return f"All {len(checks)} results that must be equal to the reference are."


def case_report(outcome: Outcome) -> str:
    """One case: its sides and its checks."""
    parts = [f"## {outcome.name}: {outcome.title}", outcome.setup]
    if outcome.scale != 1:
        parts.append(f"Scale {outcome.scale:g}: the numbers of rows are multiplied by it. Its figures say nothing about speed.")
    if outcome.stopped:
        parts.append(f"**Stopped:** {outcome.stopped}")
    if outcome.sides:
        parts.append(table(["side", "wall s", "spread s", "CPU s", "peak MB"], [side_row(*item) for item in outcome.sides.items()]))
    if outcome.checks:
        head = ["result, against DuckDB with tie-break", "rows", "features not null", "rows differing", ""]
        parts.append(table(head, [check_row(check) for check in outcome.checks]))
    parts += outcome.notes
    parts.append(f"Commit {outcome.commit}, {outcome.date}, median of {outcome.runs} runs at most.")
    return "\n\n".join(parts)


def side_row(name: str, side: dict) -> list[str]:
    """A side's figures, or why there are none."""
    if side["failure"]:
        return [name, f"failed: {side['failure'].replace('|', '/')}", "-", "-", "-"]
    walls = [run["wall"] for run in side["runs"]]
    return [name, f"{side['wall']:.2f}", f"{min(walls):.2f} to {max(walls):.2f}", f"{side['cpu']:.1f}", f"{side['peak'] / 1e6:,.0f}"]


def check_row(check: Check) -> list[str]:
    """A check, and a word on it."""
    word = "equal" if check.differing == 0 else ("WRONG" if check.must else "an easier question")
    filled = "-" if check.filled is None else f"{check.filled:.0%}"
    return [check.side, f"{check.rows:,}", filled, f"{check.differing:,}", f"{word}; {check.remark}" if check.remark else word]


def report(outcomes: list[Outcome], machine: str, cores: str, command: str) -> str:
    """The whole page. `command` is how the last outcomes came about."""
    versions = ", ".join(f"{peer} {importlib.metadata.version(peer)}" for peer in PEERS)
    return "\n\n".join(
        [
            "# The point-in-time join, measured",
            "Written by `make bench-pit`; do not edit. [README.md](README.md) says how it is measured.",
            f"{machine}; {cores}. {versions}, Python {platform.python_version()}.",
            f"Command: `{command}`",
            targets(outcomes),
            equality(outcomes),
            *(case_report(outcome) for outcome in outcomes),
        ]
    ) + "\n"
