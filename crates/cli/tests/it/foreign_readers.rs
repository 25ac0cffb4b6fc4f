//! The Delta tables as something that is not ours reads them: the deltalake package of Python.

use std::process::Command;

use serde_json::Value as Json;

use crate::harness::{Repo, here};

/// A view's table: its columns, then its rows, without the times of the runs.
pub(crate) fn read_with_python(repo: &Repo, view: &str) -> Vec<Json> {
    let python = std::env::var("VINTNER_TEST_PYTHON").expect(
        "VINTNER_TEST_PYTHON must name a Python with the deltalake package; `make test` sets it",
    );
    let table = repo.path(&format!(".vintner/offline/shop/{view}/v1"));
    let output = Command::new(&python)
        .arg(here("tests/python/compare_delta.py"))
        .arg(table)
        .args(["--without", "created_timestamp"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_deltalake_package_reads_what_was_written() {
    let repo = Repo::new();
    repo.done(&["apply", "--yes"]);
    repo.done(&["materialize"]);
    let profiles = std::fs::read_to_string(repo.path("data/profiles.csv")).unwrap();
    repo.write(
        "data/profiles.csv",
        &format!("{profiles}4,2026-03-09T00:00:00Z,free,\n"),
    );
    repo.done(&["materialize"]);
    insta::assert_json_snapshot!("profiles", read_with_python(&repo, "customer_profile"));
    insta::assert_json_snapshot!("orders", read_with_python(&repo, "customer_orders"));
}
