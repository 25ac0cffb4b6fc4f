"""The cases: one function each. Its docstring's first line is the title, the rest says what is measured.

Numbers of rows are those of scale 1.
"""

import json
from collections.abc import Callable

import measure
from case import Case, view_of
from measure import Failed, Side
from question import Question

MEBI = 2**20


def main(case: Case) -> None:
    """10 M feature rows x 10 float64, 100 k entities, ttl 7 d, 1 M entity rows

    Events over 90 days, keys and times uniform, in 11 files that follow each other in time. Vintner reads its Delta table, as it
    was materialized; the others read the source's Parquet files. "DuckDB, sum and write" reads and sums the columns that the join
    reads, and writes the rows that it writes (which it reads from Parquet too): no join at all.
    """
    rows = case.rows(10_000_000, 100_000)
    view = view_of(case.features("features", rows, 10), 10)
    question = Question(case.entity_rows("rows", case.rows(1_000_000, 100_000)), [view])
    repo = case.repo("repo", [view])
    reference = case.reference("main", question)
    ours = repo.join(question, case.out("vintner"))
    ties = case.peer("duckdb_ties", "DuckDB, created-time tie-break", question)
    plain = case.peer("duckdb_asof", "DuckDB, no tie-break", question)
    polars_ties = case.peer("polars_ties", "Polars, created-time tie-break", question)
    polars = case.peer("polars_asof", "Polars, no tie-break", question)
    feast = case.peer("feast", "Feast, DuckDB store", question)
    scan = case.peer("duckdb_scan", "DuckDB, sum and write", question, str(reference))
    case.tool("peers.py", "feast_apply", feast.command[3], str(feast.out))
    case.measure(ours, ties, plain, polars_ties, polars, feast, scan)
    for side, target in [(ties, 0.25), (plain, 0.5), (polars_ties, 0.25), (polars, 0.4), (feast, 0.1), (scan, 1.6)]:
        case.ratio("wall time", ours.name, side.name, target)
    case.ratio("peak resident memory", ours.name, plain.name, 0.35, of="peak")
    case.check(ours, reference, ordered=True)
    for side in (ties, polars_ties, feast):
        case.check(side, reference)
    for side in (plain, polars):
        case.check(side, reference, must=False)


def four_views(case: Case) -> None:
    """Four views of 10 columns against one view with the same 40 columns

    5 M feature rows, 100 k entities, 500 k entity rows; every view has its own Delta table. The others are asked for four views.
    """
    source = case.features("features", case.rows(5_000_000, 100_000), 40)
    rows = case.entity_rows("rows", case.rows(500_000, 100_000))
    narrow = [view_of(source, 10, f"narrow_{number}", first=number * 10) for number in range(4)]
    wide = view_of(source, 40, "wide")
    repo = case.repo("repo", [*narrow, wide])
    four, one = Question(rows, narrow), Question(rows, [wide])
    reference = case.reference("four", four)
    ours = repo.join(four, case.out("four"), "Vintner, four views")
    yardstick = repo.join(one, case.out("one"), "Vintner, one view of 40 columns")
    duckdb = case.peer("duckdb_asof", "DuckDB, four views, no tie-break", four)
    polars = case.peer("polars_asof", "Polars, four views, no tie-break", four)
    case.measure(ours, yardstick, duckdb, polars)
    case.ratio("wall time, four views", ours.name, yardstick.name, 1.3)
    case.ratio("peak resident memory, four views", ours.name, yardstick.name, None, of="peak")
    for side in (duckdb, polars):
        case.ratio("wall time, four views", ours.name, side.name, None)
        case.check(side, reference, must=False)
    for side in (ours, yardstick):
        case.check(side, reference, ordered=True)


def many_views(case: Case) -> None:
    """100 views of 5 columns, 10 k entity rows

    200 k feature rows per view, 10 k entities. Time must grow with the columns that are read: with 100 views, each column may
    take 1.15 times what it takes with 25. It must not grow with views x entity rows: a tenth of the entity rows is asked too.
    """
    source = case.features("features", case.rows(200_000, 10_000), 500)
    rows = case.entity_rows("rows", case.rows(10_000, 10_000))
    few_rows = case.entity_rows("few-rows", case.rows(1_000, 10_000))
    views = [view_of(source, 5, f"view_{number:03}", first=number * 5) for number in range(100)]
    wide = view_of(source, 500, "wide")
    repo = case.repo("repo", [*views, wide])
    all_views = Question(rows, views)
    hundred = repo.join(all_views, case.out("100"), "Vintner, 100 views")
    quarter = repo.join(Question(rows, views[:25]), case.out("25"), "Vintner, 25 views")
    few = repo.join(Question(few_rows, views), case.out("few"), "Vintner, 100 views, 1 k entity rows")
    one = repo.join(Question(rows, [wide]), case.out("wide"), "Vintner, one view of 500 columns")
    case.measure(hundred, quarter, few, one)
    case.ratio("wall time per column, 100 views", hundred.name, quarter.name, 1.15, per=4)
    case.ratio("wall time, 10 k entity rows", hundred.name, few.name, None)
    case.ratio("wall time, 100 views", hundred.name, one.name, None)
    case.value("planning, share of the whole", planning_share(case, hundred), 0.05, "share")
    # All 500 columns at once are one ASOF join for DuckDB.
    reference = case.reference("wide", Question(rows, [wide]))
    for side in (hundred, one):
        case.check(side, reference, ordered=True)


def planning_share(case: Case, side: Side) -> float | None:
    """The part of a join that went into planning, as `--explain` reports it."""
    if not case.can("get-historical", "--explain"):
        case.note("Planning is not reported: `get-historical` has no `--explain`.")
        return None
    try:
        answer = json.loads(measure.run([*side.command, "--explain"])[1])
        return answer["explain"]["planning_micros"] / answer["micros"]
    except (Failed, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        case.note(f"Planning is not reported: `--explain` did not give `explain.planning_micros` ({error!r}).")
        return None


def selective(case: Case) -> None:
    """10 k entity rows of 100 entities in one week, against 100 M feature rows over two years

    2 float64 columns, 100 k entities, ttl 7 d; the 100 entities are spread evenly over all keys. The table is laid out by
    `vintner compact`. The yardstick is a join that needs the full history: 100 k entity rows over all keys and all time.
    """
    entities, asked = case.scaled(100_000), min(100, case.scaled(100_000))
    source = case.features("features", case.rows(100_000_000, 100_000, days=730), 2)
    view = view_of(source, 2)
    week = case.rows(10_000, 100_000, days=7, first_day=500)
    week = type(week)(week.rows, asked, days=7, first_day=500, key_step=entities // asked)
    narrow = Question(case.entity_rows("week", week), [view])
    full = Question(case.entity_rows("all", case.rows(100_000, 100_000, days=730)), [view])
    references = case.reference("week", narrow), case.reference("all", full, every=10)
    repo = case.repo("repo", [view])
    case.drop(source)
    if case.can("compact"):
        usage, _ = repo.run(*compact_words(case))
        case.note(f"`vintner compact` took {usage.wall:.1f} s and {usage.peak / 1e6:.0f} MB.")
    else:
        case.note("The table is as it was materialized: the binary has no `compact`.")
    ours = repo.join(narrow, case.out("week"), "Vintner, one week of 100 entities")
    scan = repo.join(full, case.out("all"), "Vintner, full history")
    case.measure(ours, scan)
    case.ratio("wall time", ours.name, scan.name, 0.05)
    case.check(ours, references[0], ordered=True)
    case.check(scan, references[1], every=10, ordered=True)


def compact_words(case: Case) -> list[str]:
    """How `compact` is asked not to ask."""
    return ["compact", "--yes"] if case.can("compact", "--yes") else ["compact"]


def skew(case: Case) -> None:
    """Skewed keys and times against uniform ones

    5 M feature rows x 10 float64, 100 k entities, 500 k entity rows, drawn the same way as the feature rows: uniform; one entity
    owns half of all rows; Zipf keys; all rows on one timestamp.
    """
    ways = {
        "uniform": {},
        "one entity owns half": {"keys": "half"},
        "Zipf keys": {"keys": "zipf"},
        "all rows on one timestamp": {"times": "one"},
    }
    sides = []
    for number, (name, how) in enumerate(ways.items()):
        source = case.features(f"features-{number}", case.rows(5_000_000, 100_000, **how), 10)
        view = view_of(source, 10)
        question = Question(case.entity_rows(f"rows-{number}", case.rows(500_000, 100_000, **how)), [view])
        reference = case.reference(str(number), question)
        side = case.repo(f"repo-{number}", [view]).join(question, case.out(str(number)), f"Vintner, {name}")
        case.drop(source)
        sides.append((side, reference))
    case.measure(*(side for side, _ in sides))
    uniform = sides[0][0]
    for side, _ in sides[1:]:
        case.ratio(f"wall time, {side.name.removeprefix('Vintner, ')}", side.name, uniform.name, 1.3)
    for side, reference in sides:
        case.check(side, reference, ordered=True)


def kinds(case: Case) -> None:
    """Strings, lists and 200-column views against floats, per byte

    Floats: 5 M rows x 10. Strings: 3 M rows x 10, of 8 to 24 letters. Lists: 3 M rows x 3, of up to 8 float64. Wide: 250 k rows
    x 200 float64. 100 feature rows per entity, a tenth as many entity rows. Bytes are those of the columns read and of the result,
    in memory as Arrow.
    """
    ways = {
        "floats": (5_000_000, 10, "float64"),
        "strings": (3_000_000, 10, "string"),
        "lists": (3_000_000, 3, "list"),
        "200 columns": (250_000, 200, "float64"),
    }
    sides = {}
    for number, (name, (rows, columns, kind)) in enumerate(ways.items()):
        view = view_of(case.features(f"features-{number}", case.rows(rows, rows // 100), columns, kind), columns)
        question = Question(case.entity_rows(f"rows-{number}", case.rows(rows // 10, rows // 100)), [view])
        reference = case.reference(str(number), question)
        side = case.repo(f"repo-{number}", [view]).join(question, case.out(str(number)), f"Vintner, {name}")
        sides[name] = side, reference, case.bytes_moved(question, reference)
        case.drop(view.source)
    case.measure(*(side for side, _, _ in sides.values()))
    floats, _, float_bytes = sides["floats"]
    for name, (side, reference, size) in sides.items():
        if name != "floats":
            case.ratio(f"wall time per byte, {name}", side.name, floats.name, 1.5, per=size / float_bytes)
        case.check(side, reference, ordered=True)
    sizes = ", ".join(f"{name} {size / 1e6:,.0f} MB" for name, (_, _, size) in sides.items())
    case.note(f"Bytes read and written: {sizes}.")


def spill(case: Case) -> None:
    """50 M entity rows x 3 views under `--memory 1GiB`

    10 M feature rows, 100 k entities, 3 views of 2 float64 columns. 5 M entity rows are joined under the same limit, to see
    whether time is linear.
    """
    if not case.can("get-historical", "--memory"):
        case.note("Not run: `get-historical` has no `--memory`.")
        case.value("peak resident memory, 50 M entity rows", None, 1.3, "GiB")
        return
    source = case.features("features", case.rows(10_000_000, 100_000), 6)
    views = [view_of(source, 2, f"view_{number}", first=number * 2) for number in range(3)]
    repo = case.repo("repo", views)
    sides = []
    for millions, every in [(5, 1), (50, 10)]:
        rows = case.entity_rows(f"rows-{millions}", case.rows(millions * 1_000_000, 100_000))
        question = Question(rows, views)
        reference = case.reference(str(millions), question, every)
        name = f"Vintner, {millions} M entity rows, 1 GiB"
        side = repo.join(question, case.out(str(millions)), name, flags=("--memory", "1GiB"))
        sides.append((side, reference, every))
    (small, *_), (large, *_) = sides
    case.measure(small, large, runs=min(case.settings.runs, 3))
    peak = case.took(large.name, "peak")
    case.value("peak resident memory, 50 M entity rows", peak and peak / 2**30, 1.3, "GiB")
    case.ratio("wall time per entity row, 50 M", large.name, small.name, 1.15, per=10)
    for side, reference, every in sides:
        case.check(side, reference, every, ordered=True)


def materialize(case: Case) -> None:
    """Materialize 10 M rows from Parquet into Delta

    10 float64 columns, 100 k entities, no online store. Every run starts from an empty store. The yardstick is DuckDB reading the
    same rows and writing them as Parquet (snappy). 30 M rows are materialized too, for the memory.
    """
    for millions in (10, 30):
        source = case.features(f"features-{millions}", case.rows(millions * 1_000_000, 100_000), 10)
        view = view_of(source, 10)
        question = Question("", [view])
        repo = case.repo(f"repo-{millions}", [view])
        ours = Side(f"Vintner, materialize {millions} M rows", repo.command("materialize"), prepare=repo.apply)
        if millions == 10:
            copy = case.peer("duckdb_copy", "DuckDB, read and write 10 M rows", question)
            case.measure(ours, copy)
            case.ratio("wall time, 10 M rows", ours.name, copy.name, 1.3)
        else:
            case.measure(ours, runs=1)
        peak = case.took(ours.name, "peak")
        case.value(f"peak resident memory, {millions} M rows", peak and peak / 1e6, 600, "MB")
        case.check_table(repo, question, ours.name)
        case.drop(source, str(repo.folder))


CASES: dict[str, Callable[[Case], None]] = {
    "main": main,
    "four-views": four_views,
    "many-views": many_views,
    "selective": selective,
    "skew": skew,
    "kinds": kinds,
    "spill": spill,
    "materialize": materialize,
}
