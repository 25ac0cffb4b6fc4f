"""What every case uses: its folder, its data, its sides, and what came out."""

import dataclasses
import datetime
import json
import pathlib
import shutil
import subprocess
import sys

import data
import measure
from measure import Failed, Measured, Side, Usage
from question import CREATED, EVENT, KEY, Question, View, feature_names
from vintner import Repo, has_command, has_flag

HERE = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Settings:
    """How the benchmark was called."""

    vintner: pathlib.Path
    work: pathlib.Path
    runs: int
    scale: float
    keep: bool


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of the table. `measured` is None when it could not be measured; `target` is None when none was set."""

    what: str
    yardstick: str
    target: float | None
    measured: float | None
    unit: str = ""

    @property
    def verdict(self) -> str:
        """Met, missed, or neither."""
        if self.measured is None:
            return "not measured"
        if self.target is None:
            return "no target"
        return "met" if self.measured <= self.target else "MISSED"


@dataclasses.dataclass(frozen=True)
class Check:
    """Whether a result is what it must be. `must` is false where a side answers an easier question."""

    side: str
    rows: int
    differing: int
    # The share of feature values that are not null: a comparison of nulls would prove nothing.
    filled: float | None = None
    remark: str = ""
    must: bool = True

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.must or self.differing == 0


@dataclasses.dataclass
class Outcome:
    """What a case found, as it is kept and reported."""

    name: str
    title: str
    setup: str
    scale: float
    runs: int
    date: str
    commit: str
    sides: dict[str, dict] = dataclasses.field(default_factory=dict)
    lines: list[Line] = dataclasses.field(default_factory=list)
    checks: list[Check] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    # Why the case could not be carried to its end.
    stopped: str | None = None

    @property
    def good(self) -> bool:
        """Whether all sides ran and every result is right. A missed target is not an error."""
        failed = self.stopped or any(side["failure"] for side in self.sides.values())
        return not failed and all(check.good for check in self.checks)

    def save(self, path: pathlib.Path) -> None:
        """Keeps it for the report."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: pathlib.Path) -> "Outcome":
        """Reads what `save` wrote."""
        fields = json.loads(path.read_text())
        fields["lines"] = [Line(**line) for line in fields["lines"]]
        fields["checks"] = [Check(**check) for check in fields["checks"]]
        return cls(**fields)


class Case:
    """A case while it runs. Everything it makes is in `folder`."""

    def __init__(self, settings: Settings, name: str, title: str, setup: str):
        self.settings, self.name = settings, name
        self.folder = settings.work / name
        self.folder.mkdir(parents=True)
        self.outcome = Outcome(
            name, title, setup, settings.scale, settings.runs, datetime.date.today().isoformat(), commit()
        )
        self.made = 0

    def say(self, text: str) -> None:
        """Tells whoever waits."""
        print(f"[{self.name}] {text}", file=sys.stderr, flush=True)

    def scaled(self, number: int) -> int:
        """A number of rows or entities, at the scale that was asked for."""
        return max(round(number * self.settings.scale), 10)

    def path(self, name: str) -> pathlib.Path:
        """A path in the case's folder."""
        return self.folder / name

    def spec(self, name: str, contents: dict) -> str:
        """A file that tells another process what to do."""
        path = self.path(f"{name}.spec.json")
        path.write_text(json.dumps(contents))
        return str(path)

    def tool(self, script: str, *words: str) -> tuple[Usage, str]:
        """Runs a script of this folder to its end; nobody compares how long it takes."""
        return measure.run([sys.executable, str(HERE / script), *words])

    def rows(self, rows: int, entities: int, **how) -> data.Rows:
        """Rows at the scale that was asked for."""
        return data.Rows(self.scaled(rows), self.scaled(entities), **how)

    def features(self, name: str, rows: data.Rows, columns: int, kind: str = "float64") -> str:
        """Makes a feature table; gives its folder."""
        self.say(f"making {name}: {rows.rows:,} feature rows of {columns} x {kind}")
        table = data.FeatureTable(str(self.path(name)), rows, columns, kind)
        self.tool("data.py", self.spec(name, dataclasses.asdict(table)))
        return table.folder

    def entity_rows(self, name: str, rows: data.Rows) -> str:
        """Makes entity rows; gives their file."""
        self.say(f"making {name}: {rows.rows:,} entity rows")
        table = data.EntityRows(str(self.path(f"{name}.parquet")), rows)
        self.tool("data.py", self.spec(name, dataclasses.asdict(table)))
        return table.path

    def repo(self, name: str, views: list[View]) -> Repo:
        """A Vintner repo with these views materialized."""
        repo = Repo(self.settings.vintner, self.path(name), views)
        usage = repo.materialize()
        self.say(f"materialized {name}: {usage.wall:.2f} s, {usage.peak / 1e6:.0f} MB")
        return repo

    def out(self, name: str) -> pathlib.Path:
        """A result's file, in a folder of its own."""
        folder = self.path(f"out-{name}")
        folder.mkdir(exist_ok=True)
        return folder / "result.parquet"

    def peer(self, side: str, name: str, question: Question, *extra: str) -> Side:
        """Another side, asked the same."""
        out = self.out(side)
        self.made += 1
        asked = question.save(self.path(f"question-{self.made}.json"))
        command = [sys.executable, str(HERE / "peers.py"), side, str(asked), str(out), *extra]
        return Side(name, command, out)

    def reference(self, name: str, question: Question, every: int = 1) -> pathlib.Path:
        """The answer by DuckDB's ASOF join with the created-time tie-break, for each `every`-th entity row."""
        self.say(f"reference answer {name}")
        side = self.peer("reference", name, question, str(every))
        measure.once(side)
        kept = self.path(f"reference-{name}.parquet")
        side.out.rename(kept)
        return kept

    def measure(self, *sides: Side, runs: int | None = None) -> None:
        """Runs the sides in turn, and keeps what they took."""
        for name, measured in measure.in_turn(sides, runs or self.settings.runs, self.say).items():
            self.outcome.sides[name] = {what: measured.median(what) for what in ("wall", "cpu", "peak")} | {
                "failure": measured.failure,
                "runs": [dataclasses.asdict(usage) for usage in measured.runs],
            }

    def took(self, side: str, what: str = "wall") -> float | None:
        """The median of a side that was measured; None when it failed or was not run."""
        return self.outcome.sides.get(side, {}).get(what)

    def ratio(self, what: str, ours: str, theirs: str, target: float | None, of: str = "wall", per: float = 1) -> None:
        """A line: one side against another. `per` is how many times more work ours had."""
        mine, other = self.took(ours, of), self.took(theirs, of)
        measured = mine / other / per if mine is not None and other else None
        self.outcome.lines.append(Line(what, theirs, target, measured))

    def value(self, what: str, measured: float | None, target: float | None, unit: str) -> None:
        """A line with an absolute target."""
        self.outcome.lines.append(Line(what, "", target, measured, unit))

    def note(self, text: str) -> None:
        """Something that a reader must know."""
        self.say(text)
        self.outcome.notes.append(text)

    def stopped(self, why: str) -> None:
        """The case ends here."""
        self.say(f"stopped: {why}")
        self.outcome.stopped = why

    def check(self, side: Side, reference: pathlib.Path, every: int = 1, ordered: bool = False, must: bool = True) -> None:
        """Compares a side's last result with the reference, cell by cell. `ordered`: it must have the entity rows' order."""
        if self.outcome.sides[side.name]["failure"]:
            return
        try:
            found = json.loads(self.tool("equal.py", str(side.out), str(reference), str(every))[1])
        except Failed as failure:
            self.outcome.checks.append(Check(side.name, 0, 1, remark=f"could not be compared: {failure}"))
            return
        differing, remarks = found["rows_differing"], []
        if every > 1:
            remarks.append(f"each {every}th row was compared")
        if differing:
            remarks.append(f"in the columns {', '.join(found['columns_differing'])}")
        if ordered and not found["in_order"]:
            differing = max(differing, 1)
            remarks.append("not in the order of the entity rows")
        if differing and not must:
            remarks = ["answers ties by stored order"]
        check = Check(side.name, found["rows"], differing, found.get("filled"), "; ".join(remarks), must)
        self.say(f"{side.name}: {check.differing} of {check.rows:,} rows differ. {check.remark}")
        self.outcome.checks.append(check)

    def check_table(self, repo: Repo, question: Question, name: str) -> None:
        """Compares the Delta table of a view with its source."""
        [view] = question.views
        asked = question.save(self.path("question-table.json"))
        found = json.loads(self.tool("equal.py", "--same-rows", str(repo.delta_table(view)), str(asked))[1])
        remark = "number of rows and sum of hashes, against the source"
        self.outcome.checks.append(Check(name, found["rows"], int(not found["equal"]), remark=remark))

    def bytes_of(self, pattern: str, columns: list[str]) -> int:
        """How many bytes these columns have in memory, as Arrow."""
        return json.loads(self.tool("equal.py", "--bytes", pattern, ",".join(columns))[1])["bytes"]

    def bytes_moved(self, question: Question, result: pathlib.Path) -> int:
        """What a join reads of the views, and what it writes."""
        read = sum(self.bytes_of(view.files, [KEY, EVENT, CREATED, *view.features]) for view in question.views)
        return read + self.bytes_of(str(result), [KEY, EVENT, *question.features])

    def can(self, command: str, flag: str | None = None) -> bool:
        """Whether the binary knows a command, and its flag."""
        binary = self.settings.vintner
        return has_flag(binary, command, flag) if flag else has_command(binary, command)

    def drop(self, *paths: str) -> None:
        """Removes data that is not needed any more."""
        for path in paths:
            shutil.rmtree(path) if pathlib.Path(path).is_dir() else pathlib.Path(path).unlink()

    def end(self) -> None:
        """Removes everything but the outcome."""
        if not self.settings.keep:
            shutil.rmtree(self.folder)


def commit() -> str:
    """The commit of the benchmark and, it is hoped, of the binary."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def view_of(source: str, columns: int, name: str = "features", first: int = 0, ttl_days: int | None = 7) -> View:
    """A view of some features of a folder, with the ttl that all cases have."""
    return View(name, source, feature_names(columns, first), ttl_days)
