//! No input makes the crate panic, and every place lies in its file.

use proptest::{prelude::*, sample::Index};

use super::{DEFINITIONS, DEPLOYMENT, parse_files};
use crate::Rendering;

/// One change to a text.
#[derive(Clone, Debug)]
enum Change {
    Delete(Index, usize),
    Insert(Index, &'static str),
    Swap(Index, Index),
    Repeat(Index, usize),
    Truncate(Index),
}

/// What YAML, variables and queries are sensitive to.
const PIECES: &[&str] = &[
    ":",
    ": ",
    "-",
    "- ",
    "---\n",
    "...\n",
    "[",
    "]",
    "{",
    "}",
    ",",
    "'",
    "\"",
    "\\",
    "#",
    " #",
    "|",
    ">",
    "|2\n",
    ">-\n",
    "&a ",
    "*a",
    "!!str ",
    "!x ",
    "%",
    "@",
    "`",
    "?",
    "? ",
    "\n",
    "\r",
    "\r\n",
    "\t",
    " ",
    "  ",
    "\n  ",
    "\n\t",
    "\0",
    "\u{feff}",
    "\u{85}",
    "\u{2028}",
    "ü",
    "日本",
    "\u{1f377}",
    "~",
    "null",
    "true",
    "0x",
    "1e9",
    "${",
    "${A}",
    "${A:-",
    "$${",
    "://a:b@",
    "password: x\n",
    "<<: *a\n",
    "kind: ",
    "name: ",
    "source: ",
    "\\u00",
    "\\x4",
];

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<Index>(), 1..20_usize).prop_map(|(at, length)| Change::Delete(at, length)),
        (any::<Index>(), proptest::sample::select(PIECES))
            .prop_map(|(at, piece)| Change::Insert(at, piece)),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Change::Swap(a, b)),
        (any::<Index>(), 1..40_usize).prop_map(|(at, length)| Change::Repeat(at, length)),
        any::<Index>().prop_map(Change::Truncate),
    ]
}

fn changed(text: &str, changes: &[Change]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for change in changes {
        let size = chars.len();
        if size == 0 {
            break;
        }
        match change {
            Change::Delete(at, length) => {
                let at = at.index(size);
                chars.drain(at..(at + length).min(size));
            }
            Change::Insert(at, piece) => {
                let at = at.index(size);
                chars.splice(at..at, piece.chars());
            }
            Change::Swap(a, b) => chars.swap(a.index(size), b.index(size)),
            Change::Repeat(at, length) => {
                let at = at.index(size);
                let again: Vec<char> = chars[at..(at + length).min(size)].to_vec();
                chars.splice(at..at, again);
            }
            Change::Truncate(at) => chars.truncate(at.index(size)),
        }
    }
    chars.into_iter().collect()
}

fn check(deployment: &str, definitions: &str) -> Result<(), TestCaseError> {
    let parsed = parse_files(&[("vintner.yaml", deployment), ("a.yaml", definitions)]);
    for diagnostic in &parsed.diagnostics {
        let place = diagnostic.place();
        let text = place.file().text();
        prop_assert!(text.get(place.span().range()).is_some(), "{diagnostic:?}");
        prop_assert!(diagnostic.line() >= 1 && diagnostic.column() >= 1);
        prop_assert!(crate::code::ALL.contains(&diagnostic.code()));
        let report = diagnostic.render(Rendering::default());
        prop_assert!(!report.contains("Failed to read"), "{report}");
    }
    let is_sound = !parsed.diagnostics.iter().any(crate::Diagnostic::is_error);
    prop_assert_eq!(parsed.repo.is_some(), is_sound);
    Ok(())
}

fn scalars(node: &crate::node::Node) -> Vec<&crate::node::Node> {
    use crate::node::Data;
    match &node.data {
        Data::Scalar(_) => vec![node],
        Data::List(elements) => elements.iter().flat_map(scalars).collect(),
        Data::Mapping(entries) => {
            let both = entries.iter().flat_map(|(key, value)| [key, value]);
            both.flat_map(scalars).collect()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_yaml(
        deployment in proptest::collection::vec(change(), 0..3),
        definitions in proptest::collection::vec(change(), 0..6),
    ) {
        let definitions = changed(DEFINITIONS, &definitions);
        check(&changed(DEPLOYMENT, &deployment), &definitions)?;
        for node in crate::yaml::load(&definitions).documents.iter().flat_map(scalars) {
            let written = crate::written::Written::of(node, &definitions);
            prop_assert!(written.is_some(), "{node:?}");
        }
    }

    #[test]
    fn pieces_of_yaml(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..30)) {
        let text = pieces.concat();
        check(&text, &text)?;
    }

    #[test]
    fn any_text(text in any::<String>()) {
        check(&text, &text)?;
    }
}
