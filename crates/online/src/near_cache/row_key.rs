//! Which row a Redis key stands for: the inverse of how the Redis store makes keys.

use std::hash::{Hash, Hasher};

use hashbrown::Equivalent;
use vintner_core::{ProjectName, ViewId};

/// What every row's key begins with, and no other key of Vintner.
pub(super) const PREFIX: &str = "vn:{";

/// The key of one row, taken apart: `vn:{<project>|<entity key>}:<view>@<version>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowKey<'a> {
    pub(super) view: ViewRef<'a>,
    pub(super) entity: &'a [u8],
}

/// One view version of one project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProjectView {
    pub(super) project: ProjectName,
    pub(super) view: ViewId,
}

/// The same, borrowed, so that looking one up copies nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ViewRef<'a> {
    project: &'a str,
    view: &'a str,
    version: u32,
}

/// Takes a key apart; none when it is no row's.
///
/// No project, view or version has one of `|`, `}` and `:`. So the first `|` ends the project and the last `}` ends the
/// entity key, whatever bytes it has.
pub(super) fn parse(key: &[u8]) -> Option<RowKey<'_>> {
    let rest = key.strip_prefix(PREFIX.as_bytes())?;
    let bar = rest.iter().position(|&byte| byte == b'|')?;
    let brace = rest.iter().rposition(|&byte| byte == b'}')?;
    let project = str::from_utf8(rest.get(..bar)?).ok()?;
    let entity = rest.get(bar + 1..brace)?;
    let view = rest.get(brace + 1..)?.strip_prefix(b":")?;
    let (view, version) = str::from_utf8(view).ok()?.split_once('@')?;
    // `01` and `+1` are other keys than `1`.
    let canonical = version.bytes().all(|byte| byte.is_ascii_digit()) && !version.starts_with('0');
    let version = canonical.then(|| version.parse().ok()).flatten()?;
    let view = ViewRef {
        project,
        view,
        version,
    };
    Some(RowKey { view, entity })
}

impl<'a> ViewRef<'a> {
    pub(super) fn new(project: &'a ProjectName, view: &'a ViewId) -> Self {
        Self {
            project: project.as_str(),
            view: view.name.as_str(),
            version: view.version.0,
        }
    }
}

impl ProjectView {
    pub(super) fn as_ref(&self) -> ViewRef<'_> {
        ViewRef::new(&self.project, &self.view)
    }
}

impl Hash for ProjectView {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_ref().hash(state);
    }
}

impl Equivalent<ProjectView> for ViewRef<'_> {
    fn equivalent(&self, key: &ProjectView) -> bool {
        *self == key.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vintner_core::EntityKey;

    use super::*;
    use crate::redis::row_key;

    #[test]
    fn a_key_that_is_no_row_is_nothing() {
        for key in [
            "",
            "vn:",
            "vn:{",
            "vn:progress:project:view@1",
            "vn:{project|key}",
            "vn:{project|key}:",
            "vn:{project|key}:view",
            "vn:{project|key}:view@",
            "vn:{project|key}:view@x",
            "vn:{project|key}:view@0",
            "vn:{project|key}:view@01",
            "vn:{project|key}:view@+1",
            "vn:{project|key}:view@4294967296",
            "vn:{project|key}view@1",
            "vn:{project}:view@1",
            "vn:{}|project:view@1",
            "vn:project|key}:view@1",
            " vn:{project|key}:view@1",
        ] {
            assert_eq!(parse(key.as_bytes()), None, "{key}");
        }
    }

    /// Bytes that are likely to be taken for a separator.
    fn entity() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![prop::sample::select(b"{}|:@1v\0\xff".to_vec()), any::<u8>()];
        prop::collection::vec(byte, 0..24)
    }

    proptest! {
        #[test]
        fn every_row_key_comes_apart_into_what_it_was_made_of(
            project in "[a-z][a-z0-9]{0,4}(_[a-z0-9]{1,3})?",
            view in "[a-z][a-z0-9]{0,4}(_[a-z0-9]{1,3})?",
            version in prop_oneof![1..20_u32, Just(u32::MAX)],
            entity in entity(),
        ) {
            let project: ProjectName = project.parse().unwrap();
            let view: ViewId = format!("{view}@{version}").parse().unwrap();
            let key = row_key(&project, &view, &EntityKey::from_bytes(entity.clone()));
            let want = RowKey { view: ViewRef::new(&project, &view), entity: &entity };
            prop_assert_eq!(parse(&key), Some(want));
        }

        #[test]
        fn no_bytes_panic(key in prop::collection::vec(any::<u8>(), 0..64)) {
            let with_prefix = [PREFIX.as_bytes(), &key].concat();
            parse(&key);
            parse(&with_prefix);
        }
    }
}
