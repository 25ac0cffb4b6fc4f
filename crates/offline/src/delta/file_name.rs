//! What the name of a data file says of its rows: it is the one thing that the log and all who rewrite it keep.

use object_store::path::Path;
use uuid::Uuid;

/// Where the rows of a file come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Origin {
    /// A run has computed them from sources, and another run may replace them.
    Run,
    /// They were pushed: no source has them, and no run replaces them.
    Push,
}

const PUSHED: &str = "pushed-";
const SORTED: &str = "sorted-";

/// The name of a new file.
pub(super) fn new(origin: Origin, is_sorted: bool) -> Path {
    let prefix = match (origin, is_sorted) {
        (Origin::Run, false) => "part-",
        (Origin::Run, true) => SORTED,
        (Origin::Push, false) => PUSHED,
        (Origin::Push, true) => "pushed-sorted-",
    };
    Path::from(format!("{prefix}{}.parquet", Uuid::new_v4()))
}

/// Where the rows of a file come from. A file of another writer is one that a run may replace.
pub(super) fn origin(path: &str) -> Origin {
    match path.starts_with(PUSHED) {
        true => Origin::Push,
        false => Origin::Run,
    }
}

/// Whether the rows were sorted when the file was written.
pub(super) fn is_sorted(path: &str) -> bool {
    path.strip_prefix(PUSHED)
        .unwrap_or(path)
        .starts_with(SORTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_it_was_made_for() {
        for origin_made in [Origin::Run, Origin::Push] {
            for sorted in [false, true] {
                let name = new(origin_made, sorted).to_string();
                assert_eq!(origin(&name), origin_made, "{name}");
                assert_eq!(is_sorted(&name), sorted, "{name}");
            }
        }
        assert_eq!(origin("part-00000-c000.snappy.parquet"), Origin::Run);
    }
}
