//! Ids and versions, each its own type.

use std::{fmt, str::FromStr};

use crate::name::{NameError, ViewName};

/// A version of the registry. The first `apply` makes version 1; 0 is the empty registry before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryVersion(pub u64);

impl RegistryVersion {
    /// The registry before the first `apply`.
    pub const EMPTY: Self = Self(0);

    /// The version that follows this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for RegistryVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A version of one feature view. Starts at 1; an incompatible change makes the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewVersion(pub u32);

impl ViewVersion {
    /// The version a new view has.
    pub const FIRST: Self = Self(1);

    /// The version that follows this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for ViewVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One version of one feature view: what has a Delta table and online keys of its own. Written `view@2`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewId {
    /// The view.
    pub name: ViewName,
    /// Its version.
    pub version: ViewVersion,
}

impl fmt::Display for ViewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// Why a text is not a [`ViewId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewIdError {
    /// The part before `@` is no view name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The part after `@` is no version.
    #[error("`{0}` is not a view version; write a number from 1, as in `weather@2`")]
    Version(String),
    /// There is no `@`.
    #[error("`{0}` names no version; write `view@version`")]
    Missing(String),
}

impl FromStr for ViewId {
    type Err = ViewIdError;

    fn from_str(text: &str) -> Result<Self, ViewIdError> {
        let (name, version) = text
            .split_once('@')
            .ok_or_else(|| ViewIdError::Missing(text.to_owned()))?;
        Ok(Self {
            name: name.parse()?,
            version: version.parse()?,
        })
    }
}

impl FromStr for ViewVersion {
    type Err = ViewIdError;

    fn from_str(text: &str) -> Result<Self, ViewIdError> {
        match text.parse() {
            Ok(version) if version >= 1 => Ok(Self(version)),
            _ => Err(ViewIdError::Version(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_id_is_a_name_and_a_version_from_1() {
        let id: ViewId = "weather@2".parse().unwrap();
        assert_eq!((id.name.as_str(), id.version), ("weather", ViewVersion(2)));
        assert_eq!(id.to_string(), "weather@2");
        for text in [
            "weather",
            "weather@",
            "weather@0",
            "weather@-1",
            "weather@x",
            "@1",
        ] {
            assert!(text.parse::<ViewId>().is_err(), "{text:?}");
        }
    }
}
