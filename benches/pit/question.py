"""What is asked of every side, in words that all sides share. Standard library only: the runner must stay small (see measure.py).

The columns of every file: the join key, the event timestamp and, in feature files, the created timestamp, then the features
`f0`, `f1` and so on. Entity rows carry a row number, by which results are compared. Timestamps are microseconds, UTC.
"""

import dataclasses
import json
import pathlib

ROW, KEY, EVENT, CREATED = "row_id", "entity_id", "event_timestamp", "created_timestamp"
THREADS = 2


@dataclasses.dataclass(frozen=True)
class View:
    """A feature view: some columns of a folder of Parquet files. `ttl_days` of None is no ttl."""

    name: str
    source: str
    features: list[str]
    ttl_days: int | None = 7

    @property
    def files(self) -> str:
        """The source's files, as a pattern."""
        return f"{self.source}/*.parquet"


@dataclasses.dataclass(frozen=True)
class Question:
    """A point-in-time join: every entity row with the features of all views as they stood at its time, both ends inclusive."""

    entity_rows: str
    views: list[View]

    @property
    def features(self) -> list[str]:
        """The columns that are asked for, in order."""
        return [feature for view in self.views for feature in view.features]

    def save(self, path: pathlib.Path) -> pathlib.Path:
        """Writes the question for a side in another process."""
        path.write_text(json.dumps(dataclasses.asdict(self)))
        return path

    @classmethod
    def load(cls, path: str) -> "Question":
        """Reads what `save` wrote."""
        fields = json.loads(pathlib.Path(path).read_text())
        return cls(fields["entity_rows"], [View(**view) for view in fields["views"]])


def feature_names(count: int, first: int = 0) -> list[str]:
    """The names of `count` features in a row."""
    return [f"f{number}" for number in range(first, first + count)]
