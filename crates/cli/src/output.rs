//! Tables on a terminal, plain lines with tabs in a pipe, JSON where asked for. Data goes to stdout.

use std::io::{self, IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, Table, presets::UTF8_BORDERS_ONLY};
use serde::Serialize;

/// Prints rows: a table with a head on a terminal, else a line per row with tabs between.
pub(crate) fn rows(head: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
    write!(io::stdout().lock(), "{}", rows_text(head, rows))
}

/// Rows as they are printed, with a line end after each.
pub(crate) fn rows_text(head: &[&str], rows: Vec<Vec<String>>) -> String {
    if is_terminal() {
        return format!("{}\n", table(head, rows));
    }
    let line = |row: Vec<String>| {
        let row = row.iter().map(|cell| cell.replace(['\t', '\n'], " "));
        row.collect::<Vec<_>>().join("\t") + "\n"
    };
    rows.into_iter().map(line).collect()
}

/// Whether the data goes to a terminal.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Prints text as it is, with one line end at its end.
pub(crate) fn text(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{}", text.trim_end())
}

/// Prints a value as JSON.
pub(crate) fn json(value: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)
}

/// Says something that is not data, on stderr.
pub(crate) fn say(text: impl std::fmt::Display) {
    // Nobody is left to tell when stderr is gone.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// A table as text.
pub(crate) fn table(head: &[&str], rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table
        .load_preset(UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(head);
    table.add_rows(rows);
    table
}

/// A number with a comma between each three digits.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size for people.
pub(crate) fn bytes(bytes: u64) -> String {
    let in_unit =
        |unit: u64, name: &str| format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => in_unit(1_024, "KiB"),
        1_048_576..1_073_741_824 => in_unit(1_048_576, "MiB"),
        _ => in_unit(1_073_741_824, "GiB"),
    }
}

/// A span of time for people.
pub(crate) fn seconds(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => format!(
            "{}.{:02} s",
            micros / 1_000_000,
            micros % 1_000_000 / 10_000
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_times_are_readable() {
        for (number, want) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (336_776, "336,776"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(number), want);
        }
        for (micros, want) in [(7, "7 µs"), (7_900, "7 ms"), (1_230_000, "1.23 s")] {
            assert_eq!(seconds(micros), want);
        }
    }
}
