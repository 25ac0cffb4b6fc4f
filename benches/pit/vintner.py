"""Vintner's side: a repo over the source's files, applied and materialized by the binary, then asked by it."""

import json
import pathlib
import shutil

from measure import Side, Usage, run
from question import CREATED, EVENT, KEY, Question, View


class Repo:
    """A feature repo in a folder, with one source per folder of files and one view per `View`. No online store takes part."""

    def __init__(self, binary: pathlib.Path, folder: pathlib.Path, views: list[View]):
        self.binary, self.folder, self.views = binary, folder, views
        folder.mkdir(parents=True)
        (folder / "vintner.yaml").write_text(
            "project: bench\nregistry: .vintner/registry\noffline_store: .vintner/offline\n"
            "online_store: {type: embedded, path: .vintner/online}\n"
        )
        sources = {path: f"source_{number}" for number, path in enumerate(dict.fromkeys(view.source for view in views))}
        objects = [f"kind: entity\nname: entity\njoin_keys: {{{KEY}: int64}}\n"]
        for path, name in sources.items():
            objects.append(
                f"kind: source\nname: {name}\npath: {json.dumps(path)}\nformat: parquet\n"
                f"event_timestamp: {EVENT}\ncreated_timestamp: {CREATED}\n"
            )
        for view in views:
            ttl = "" if view.ttl_days is None else f"ttl: {view.ttl_days}d\n"
            columns = ", ".join([KEY, EVENT, CREATED, *view.features])
            objects.append(
                f"kind: feature_view\nname: {view.name}\nentities: [entity]\n{ttl}online: false\n"
                f"query: SELECT {columns} FROM {sources[view.source]}\n"
            )
        (folder / "definitions.yaml").write_text("---\n".join(objects))

    def command(self, *words: str) -> list[str]:
        """A command on this repo, answered in JSON."""
        return [str(self.binary), "--repo", str(self.folder), "--format", "json", *words]

    def run(self, *words: str) -> tuple[Usage, str]:
        """Runs a command on this repo."""
        return run(self.command(*words))

    def apply(self) -> None:
        """Makes the registry anew, with nothing materialized."""
        shutil.rmtree(self.folder / ".vintner", ignore_errors=True)
        self.run("apply", "--yes")

    def materialize(self) -> Usage:
        """Makes the Delta tables of all views, from nothing."""
        self.apply()
        return self.run("materialize")[0]

    def delta_table(self, view: View) -> pathlib.Path:
        """Where a view's Delta table is."""
        return self.folder / ".vintner" / "offline" / "bench" / view.name / "v1"

    def join(self, question: Question, out: pathlib.Path, name: str = "Vintner", flags: tuple[str, ...] = ()) -> Side:
        """The side that answers a question from the Delta tables."""
        views = ",".join(view.name for view in question.views)
        asked = ("get-historical", "--features", views, "--entity-rows", question.entity_rows, "--out", str(out))
        return Side(name, self.command(*asked, *flags), out)


def has_command(binary: pathlib.Path, command: str) -> bool:
    """Whether the binary knows a command."""
    return f"\n  {command} " in run([str(binary), "--help"])[1]


def has_flag(binary: pathlib.Path, command: str, flag: str) -> bool:
    """Whether a command of the binary knows a flag."""
    return has_command(binary, command) and flag in run([str(binary), command, "--help"])[1]
