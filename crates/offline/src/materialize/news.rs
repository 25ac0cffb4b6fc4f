//! What is new in the source that a view follows.

use std::collections::BTreeMap;

use vintner_core::SourceName;

use super::progress::{SourcePart, WindowRead};
use crate::sources::{DeltaChange, SourceFile, SourceState};

/// How a followed source differs from what has been read of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Files that have not been read, or only for some window.
    pub(super) added: Vec<SourcePart>,
    /// Why what has been read no longer counts, in words.
    pub(super) rewritten: Option<String>,
    /// Files that have been read and are no longer there.
    pub(super) gone: Vec<String>,
    /// Files that were read and are gone. The cursor keeps them, so that one that comes back is not read twice.
    kept: Vec<SourceFile>,
}

impl News {
    /// Compares what a source holds `now` with what has been read of it.
    pub(super) fn since(
        source: &SourceName,
        cursor: Option<&SourceState>,
        windows: &[WindowRead],
        now: &SourceState,
        change: Option<&DeltaChange>,
    ) -> Self {
        let rewritten = |reason: String| Self {
            rewritten: Some(reason),
            ..Self::default()
        };
        match (cursor, now) {
            (None, SourceState::Files(now)) => Self::of_files(source, &[], windows, now),
            (Some(SourceState::Files(seen)), SourceState::Files(now)) => {
                Self::of_files(source, seen, windows, now)
            }
            (Some(SourceState::Delta { version }), SourceState::Delta { .. }) => match change {
                None | Some(DeltaChange::Unchanged) => Self::default(),
                Some(DeltaChange::Appended { files, .. }) => Self {
                    added: files.iter().cloned().map(SourcePart::from).collect(),
                    ..Self::default()
                },
                Some(DeltaChange::Rewritten { .. }) => rewritten(format!(
                    "rows of the table `{source}` were changed or removed since its version {version}"
                )),
            },
            (None, SourceState::Delta { .. }) => rewritten(format!(
                "`{source}` has only been read for some window so far"
            )),
            (Some(SourceState::Files(_)), SourceState::Delta { .. }) => rewritten(format!(
                "`{source}` is a Delta table now, and was files when it was read"
            )),
            (Some(SourceState::Delta { .. }), SourceState::Files(_)) => rewritten(format!(
                "`{source}` is files now, and was a Delta table when it was read"
            )),
        }
    }

    fn of_files(
        source: &SourceName,
        seen: &[SourceFile],
        windows: &[WindowRead],
        now: &[SourceFile],
    ) -> Self {
        let by_path: BTreeMap<_, _> = now.iter().map(|file| (file.path.as_str(), file)).collect();
        let read: BTreeMap<_, _> = seen.iter().map(|file| (file.path.as_str(), file)).collect();
        let for_windows = windows.iter().flat_map(|window| &window.parts);
        let for_windows = for_windows.filter_map(|part| match part {
            SourcePart::File(file) => Some(file),
            SourcePart::Delta { .. } => None,
        });
        let changed = seen.iter().chain(for_windows).find(|file| {
            let now = by_path.get(file.path.as_str());
            now.is_some_and(|now| now != file)
        });
        let gone = seen
            .iter()
            .filter(|f| !by_path.contains_key(f.path.as_str()));
        let kept: Vec<_> = gone.cloned().collect();
        let added = now.iter().filter(|f| !read.contains_key(f.path.as_str()));
        Self {
            added: added.cloned().map(SourcePart::from).collect(),
            rewritten: changed.map(|file| {
                format!(
                    "the file `{}` of `{source}` has changed since it was read",
                    file.path
                )
            }),
            gone: kept.iter().map(|file| file.path.clone()).collect(),
            kept,
        }
    }

    /// The cursor once everything that is there now has been read.
    pub(super) fn cursor_after(&self, now: &SourceState) -> SourceState {
        match now {
            SourceState::Files(files) => {
                let mut files: Vec<_> = files.iter().chain(&self.kept).cloned().collect();
                files.sort();
                SourceState::Files(files)
            }
            SourceState::Delta { .. } => now.clone(),
        }
    }
}
