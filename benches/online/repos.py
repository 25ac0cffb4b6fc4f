"""The same data as a feature repo of Vintner and as one of Feast."""

import json
import pathlib

FEATURES = 10
SMALL = 100_000
# Views over the small source that one request reads together.
TOGETHER = 5

DATA = """
import sys, numpy, pyarrow, pyarrow.parquet
rows, path = int(sys.argv[1]), sys.argv[2]
random = numpy.random.default_rng(7)
now = numpy.datetime64("now", "us") - numpy.timedelta64(3600 * 10**6, "us")
event = now - random.integers(0, 86400 * 10**6, rows).astype("timedelta64[us]")
columns = {"id": numpy.arange(rows), "observed_at": pyarrow.array(event, pyarrow.timestamp("us", "UTC"))}
columns |= {f"f{i}": random.normal(size=rows) for i in range(10)}
pyarrow.parquet.write_table(pyarrow.table(columns), path)
"""

FEAST_REPO = """
import datetime
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64

entity = Entity(name="id", join_keys=["id"], value_type=ValueType.INT64)
source = FileSource(name="source", path={path!r}, timestamp_field="observed_at")
wide = FeatureView(
    name="wide",
    entities=[entity],
    ttl=datetime.timedelta(days=365),
    schema=[Field(name=f"f{{i}}", dtype=Float64) for i in range(10)],
    source=source,
)
everything = FeatureService(name="all", features=[wide])
"""


def vintner(folder: pathlib.Path, data: pathlib.Path, small: pathlib.Path, store: dict, views: int = 1, near_cache: bool = True) -> None:
    """A repo with the view `wide` of the whole data, and small views that are read together. More views are never loaded."""
    folder.mkdir(parents=True)
    (folder / "vintner.yaml").write_text(
        "project: bench\nregistry: .vintner/registry\noffline_store: .vintner/offline\n"
        f"online_store: {json.dumps(store)}\n"
    )

    def view(name: str, source: str, extra: str = "") -> str:
        return f"kind: feature_view\nname: {name}\nentities: [thing]\nttl: 365d\nsource: {source}\n{extra}"

    def source(name: str, path: pathlib.Path) -> str:
        return f"kind: source\nname: {name}\npath: {json.dumps(str(path))}\nformat: parquet\nevent_timestamp: observed_at\n"

    def service(name: str, of: list[str]) -> str:
        return f"kind: feature_service\nname: {name}\nfeatures: {json.dumps(of)}\n"

    together = [f"part{i}" for i in range(TOGETHER)]
    objects = [
        "kind: entity\nname: thing\njoin_keys: {id: int64}\n",
        source("data", data),
        source("small", small),
        view("wide", "data"),
        service("all", ["wide"]),
        *[view(name, "small") for name in together],
        service("five", together),
        service("one", together[:1]),
        *[view(f"other{i}", "small") for i in range(views - 1)],
    ]
    if near_cache:
        objects += [view("near", "small", "near_cache: 256MiB\n"), service("near", ["near"])]
    (folder / "definitions.yaml").write_text("---\n".join(objects))


def feast(folder: pathlib.Path, data: pathlib.Path, port: int) -> None:
    """Feast's repo on Redis."""
    folder.mkdir(parents=True)
    (folder / "feature_store.yaml").write_text(
        "project: bench\nprovider: local\nregistry: registry.db\nentity_key_serialization_version: 3\n"
        "offline_store: {type: duckdb}\n"
        f"online_store: {{type: redis, connection_string: 'localhost:{port}'}}\n"
    )
    (folder / "repo.py").write_text(FEAST_REPO.format(path=str(data)))
