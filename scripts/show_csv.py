#!/usr/bin/env python3
"""Prints columns of a CSV file as a table. Needs Python alone.

python scripts/show_csv.py FILE COLUMN[=HEADING] ...    an empty cell is shown as `-`
"""

import csv
import sys


def shorter(cell: str) -> str:
    """A number with at most two digits after the point; anything else as it is."""
    if "." not in cell:
        return cell or "-"
    try:
        return f"{float(cell):.2f}".rstrip("0").rstrip(".")
    except ValueError:
        return cell


def main() -> None:
    path, *wanted = sys.argv[1:]
    columns = [column.partition("=")[0] for column in wanted]
    headings = [column.partition("=")[2] or column for column in wanted]
    with open(path, newline="", encoding="utf-8") as file:
        rows = [[shorter(row[column]) for column in columns] for row in csv.DictReader(file)]
    widths = [max(len(row[i]) for row in [headings, *rows]) for i in range(len(columns))]
    for row in [headings, ["-" * width for width in widths], *rows]:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


if __name__ == "__main__":
    main()
