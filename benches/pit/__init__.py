"""The benchmark of the point-in-time join: data, sides, cases, report. `bench_pit.py` runs it."""
