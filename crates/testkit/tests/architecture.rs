//! Dependencies between our crates run one way, and heavy crates stay behind few doors. Read from the manifests.
//!
//! To allow a new arrow, change the table here and say why in `docs/ARCHITECTURE.md`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where something is not as it must be"
)]

use std::{collections::BTreeMap, fs, path::Path};

/// Each crate, and which of ours it may use.
const ARROWS: [(&str, &[&str]); 12] = [
    ("core", &[]),
    ("proto", &["core"]),
    ("repo", &["core"]),
    ("registry", &["core", "proto"]),
    ("online", &["core", "proto", "registry"]),
    ("join", &["core"]),
    ("offline", &["core", "proto", "registry", "join"]),
    ("ops", &["core", "repo", "registry", "online", "offline"]),
    (
        "server",
        &["core", "proto", "repo", "registry", "online", "ops"],
    ),
    (
        "cli",
        &["core", "repo", "registry", "online", "ops", "server"],
    ),
    ("testkit", &["core"]),
    ("bench", &["core", "proto"]),
];

/// Crates of others that only these of ours may use.
const DOORS: [(&str, &[&str]); 8] = [
    ("datafusion", &["offline"]),
    ("deltalake", &["offline"]),
    ("parquet", &["offline", "cli"]),
    ("arrow-flight", &["server"]),
    ("tonic", &["proto", "server", "bench"]),
    ("heed", &["online"]),
    ("redis", &["online", "testkit", "bench"]),
    ("clap", &["cli", "bench"]),
];

/// What a dependency is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// The product, or the build of it.
    Product,
    /// Tests.
    Tests,
}

/// The dependencies that a manifest declares.
fn dependencies(manifest: &str) -> Vec<(String, Purpose)> {
    let mut found = Vec::new();
    let mut section = None;
    for line in manifest.lines().map(str::trim) {
        assert!(
            !line.contains("package ="),
            "a renamed dependency hides what it is: {line}"
        );
        if let Some(header) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = purpose(header);
            // `[dependencies.tonic]`
            if let (Some(purpose), Some((_, name))) = (section, header.split_once("dependencies."))
            {
                found.push((name.to_owned(), purpose));
                section = None;
            }
        } else if let Some(purpose) = section
            && line.starts_with(|c: char| c.is_ascii_alphanumeric())
        {
            let name = line
                .split(['.', '=', ' '])
                .next()
                .expect("a split has a first part");
            found.push((name.to_owned(), purpose));
        }
    }
    found
}

/// What the dependencies under a header like `target.'cfg(unix)'.dev-dependencies` are for; none for other headers.
fn purpose(header: &str) -> Option<Purpose> {
    if header.contains("dev-dependencies") {
        Some(Purpose::Tests)
    } else if header.contains("dependencies") {
        Some(Purpose::Product)
    } else {
        None
    }
}

/// Every manifest under `crates/`, by the name of its folder.
fn manifests() -> BTreeMap<String, String> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in crates/");
    fs::read_dir(crates)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("Cargo.toml").is_file())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (
                name,
                fs::read_to_string(entry.path().join("Cargo.toml")).unwrap(),
            )
        })
        .collect()
}

/// What is wrong with a crate's dependencies.
fn faults(krate: &str, manifest: &str) -> Vec<String> {
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == krate) else {
        return vec![format!("`{krate}` is not in the table of arrows")];
    };
    let mut faults = Vec::new();
    for (dependency, purpose) in dependencies(manifest) {
        if let Some(ours) = dependency.strip_prefix("vintner-") {
            let testkit_in_tests = ours == "testkit" && purpose == Purpose::Tests;
            if !allowed.contains(&ours) && !testkit_in_tests {
                faults.push(format!(
                    "`{krate}` must not use `{ours}`; it may use {allowed:?}"
                ));
            }
        }
        let door = DOORS.iter().find(|(behind, _)| {
            dependency == *behind || dependency.starts_with(&format!("{behind}-"))
        });
        if let Some((behind, doors)) = door
            && purpose == Purpose::Product
            && !doors.contains(&krate)
        {
            faults.push(format!(
                "`{krate}` must not use `{dependency}`; `{behind}` is for {doors:?}"
            ));
        }
    }
    faults
}

#[test]
fn our_crates_use_only_what_the_table_allows() {
    let faults: Vec<_> = manifests()
        .iter()
        .flat_map(|(krate, manifest)| faults(krate, manifest))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_table_has_no_cycle_and_no_crate_that_is_gone() {
    let manifests = manifests();
    for (at, (krate, allowed)) in ARROWS.iter().enumerate() {
        assert!(
            manifests.contains_key(*krate),
            "`{krate}` is in the table, and there is no such crate"
        );
        for used in *allowed {
            assert!(
                ARROWS[..at].iter().any(|(earlier, _)| earlier == used),
                "`{krate}` may use `{used}`, which does not stand above it"
            );
        }
    }
}

#[test]
fn a_wrong_arrow_is_found_however_it_is_written() {
    let cases = [
        ("core", "[dependencies]\nvintner-proto.workspace = true", 1),
        (
            "repo",
            "[dependencies]\nvintner-registry = { path = \"../registry\" }",
            1,
        ),
        (
            "online",
            "[build-dependencies]\nvintner-offline.workspace = true",
            1,
        ),
        (
            "online",
            "[dev-dependencies]\nvintner-offline.workspace = true",
            1,
        ),
        (
            "online",
            "[target.'cfg(unix)'.dependencies]\ndatafusion-sql = \"55\"",
            1,
        ),
        (
            "proto",
            "[dependencies.deltalake-core]\nworkspace = true",
            1,
        ),
        (
            "core",
            "[dependencies]\nvintner-testkit.workspace = true",
            1,
        ),
        ("unheard_of", "", 1),
        (
            "core",
            "[dev-dependencies]\nvintner-testkit.workspace = true\nclap = \"4\"",
            0,
        ),
        (
            "offline",
            "[dependencies]\ndatafusion = { workspace = true, features = [\n    \"sql\",\n] }\n[lints]\nworkspace = true",
            0,
        ),
        (
            "registry",
            "[dependencies]\nredistribute = \"1\"\n# vintner-ops = \"no\"",
            0,
        ),
    ];
    for (krate, manifest, expected) in cases {
        let found = faults(krate, manifest);
        assert_eq!(found.len(), expected, "{krate}: {manifest}: {found:?}");
    }
}
