#!/usr/bin/env python3
"""What a plain join gets wrong on the demo's data, in numbers. Needs only duckdb: `pip install duckdb`.

    python scripts/plain_join.py [--data DIR] [--training FILE]

Two joins that look right and let a training row see its future:

1. Statistics of a day, joined on that day. The mean departure delay of a route on an operating day (the same number
   as `route_delays:mean_dep_delay`) is joined to every flight of the day, once as a plain equality join on (origin,
   dest, day), once point-in-time: the latest row that could be read at the flight's scheduled departure. Printed is
   Pearson's correlation of that mean with the flight's own delay, over the flights that departed. A model that is
   trained on the first gets a feature that is not there when it has to answer. For carriers likewise.

2. Hourly weather, joined on the nearest full hour. Printed is the share of all flights that get an observation from
   after their scheduled departure.

With --training, the point-in-time correlation is also worked out from a dataset that Vintner made; the two may differ
a little, since the demo's views have a ttl (and its clock may stand before the last flights).
"""

import argparse
import pathlib

import duckdb

HERE = pathlib.Path(__file__).resolve().parent

# An operating day begins at 09:00 UTC, as in feature_repo/delays.yaml. Its statistics can be read when it is over.
OPERATING_DAY = "date_trunc('day', sched_dep_at - interval 9 hours)"
READABLE_AT = f"{OPERATING_DAY} + interval 33 hours"


def day_leak(db: duckdb.DuckDBPyConnection, keys: list[str]) -> None:
    columns = ", ".join(keys)
    same_key = " AND ".join(f"stats.{key} = flights.{key}" for key in keys)
    db.execute(
        f"""CREATE OR REPLACE TEMP TABLE stats AS
            SELECT {columns}, day, readable_at, avg(dep_delay) FILTER (WHERE dep_at <= readable_at) AS mean_dep_delay
            FROM (SELECT *, {OPERATING_DAY} AS day, {READABLE_AT} AS readable_at FROM flights)
            GROUP BY ALL"""
    )
    plain = db.execute(
        f"""SELECT corr(flights.dep_delay, stats.mean_dep_delay)
            FROM flights JOIN stats ON {same_key} AND stats.day = {OPERATING_DAY.replace("sched", "flights.sched")}"""
    ).fetchone()[0]
    point_in_time = db.execute(
        f"""SELECT corr(flights.dep_delay, stats.mean_dep_delay)
            FROM flights ASOF LEFT JOIN stats ON {same_key} AND flights.sched_dep_at >= stats.readable_at"""
    ).fetchone()[0]
    print(f"mean delay of the day by ({columns}), correlation with the flight's own delay:")
    print(f"  joined on the same day:  {plain:.2f}  (explains {plain**2:.1%} of the variance)")
    print(f"  point-in-time:           {point_in_time:.2f}  (explains {point_in_time**2:.1%} of the variance)")


def weather_from_the_future(db: duckdb.DuckDBPyConnection) -> None:
    flights, future = db.execute(
        """SELECT count(*), count(*) FILTER (WHERE weather.observed_at > flights.sched_dep_at)
           FROM flights LEFT JOIN weather
             ON weather.origin = flights.origin
            AND weather.observed_at = date_trunc('hour', flights.sched_dep_at + interval 30 minutes)"""
    ).fetchone()
    print("weather joined on the nearest full hour:")
    print(f"  {future:,} of {flights:,} flights ({future / flights:.0%}) get an observation from after their departure")


def vintners_answer(db: duckdb.DuckDBPyConnection, training: pathlib.Path) -> None:
    rows, route, carrier = db.execute(
        """SELECT count(*), corr(dep_delay, route_delays__mean_dep_delay), corr(dep_delay, carrier_delays__mean_dep_delay)
           FROM read_parquet(?)""",
        [str(training)],
    ).fetchone()
    print(f"point-in-time correlation in {training} ({rows:,} rows): route {route:.2f}, carrier {carrier:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=HERE.parent / "feature_repo" / "data")
    parser.add_argument("--training", type=pathlib.Path, help="a dataset made by `vintner get-historical`")
    args = parser.parse_args()

    db = duckdb.connect()
    db.execute("SET timezone = 'UTC'")
    for name in ("flights", "weather"):
        db.execute(f"CREATE VIEW {name} AS FROM read_parquet('{args.data / name}.parquet')")
    day_leak(db, ["origin", "dest"])
    day_leak(db, ["carrier"])
    weather_from_the_future(db)
    if args.training:
        vintners_answer(db, args.training)


if __name__ == "__main__":
    main()
