"""What is compared with what, and how well it should do."""

import dataclasses
import statistics


@dataclasses.dataclass
class Row:
    """A line of the table: a figure of ours beside a yardstick of the same run."""

    what: str
    yardstick: str
    ours: str
    theirs: str
    ratio: float | None
    target: str
    met: bool | None

    def markdown(self) -> str:
        """The line."""
        ratio = "" if self.ratio is None else f"{self.ratio:.3g}"
        met = {True: "yes", False: "**no**", None: ""}[self.met]
        return f"| {self.what} | {self.yardstick} | {self.ours} | {self.theirs} | {ratio} | {self.target} | {met} |"


HEAD = "| what | yardstick | ours | yardstick's | ratio | target | met |\n| --- | --- | --- | --- | --- | --- | --- |"


def median(runs: list[dict], what: str) -> float:
    """The median of a figure over the rounds."""
    return statistics.median(run[what] for run in runs)


def at_least(what: str, yardstick: str, ours: list[dict], theirs: list[dict], figure: str, target: float, unit: str) -> Row:
    """A rate of ours over the yardstick's: more is better. The ratio is the median of the rounds' ratios."""
    ratio = statistics.median(a[figure] / b[figure] for a, b in zip(ours, theirs, strict=True))
    mine, other = median(ours, figure), median(theirs, figure)
    return Row(what, yardstick, f"{mine:,.0f} {unit}", f"{other:,.0f} {unit}", ratio, f">= {target:g}", ratio >= target)


def at_most(what: str, yardstick: str, ours: list[dict], theirs: list[dict], figure: str, target: float) -> Row:
    """A latency of ours over the yardstick's: less is better."""
    ratio = statistics.median(a[figure] / b[figure] for a, b in zip(ours, theirs, strict=True))
    mine, other = median(ours, figure), median(theirs, figure)
    return Row(what, yardstick, f"{mine:,.0f} us", f"{other:,.0f} us", ratio, f"<= {target:.3g}", ratio <= target)


def latencies(sides: dict[str, list[dict]]) -> str:
    """All figures of all sides."""
    lines = [
        "| side | requests/s | entities/s | p50 us | p99 us | p99.9 us | CPU us a request |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, runs in sides.items():
        figures = [median(runs, what) for what in ("requests_per_s", "entities_per_s", "p50_us", "p99_us", "p999_us")]
        cpu = f"{median(runs, 'cpu_us'):.1f}" if all("cpu_us" in run for run in runs) else ""
        lines.append(f"| {name} | " + " | ".join(f"{figure:,.0f}" for figure in figures) + f" | {cpu} |")
    return "\n".join(lines)
