//! Names of the things a repo declares. One rule for objects, a looser one for columns.
//!
//! Not here: whether a name is declared anywhere; that is `repo` and `registry`.

use std::{borrow::Borrow, fmt, hash::Hash, marker::PhantomData, str::FromStr};

/// The longest name, in bytes.
pub const MAX_LENGTH: usize = 63;

/// Where Vintner's own tables are in the offline store, beside the folders of projects; so no project has this name.
pub const SYSTEM: &str = "system";

/// What kind of thing a name names; decides which characters it may have.
pub trait Kind: Copy + Ord + Hash + fmt::Debug + Send + Sync + 'static {
    /// The noun used in messages.
    const NOUN: &'static str;
    /// Whether `__` inside and `_` at either end are refused, so that `view__feature` splits in one way only.
    const STRICT: bool;
    /// Names that Vintner keeps for itself, in lower case. Refused however they are written, since some file systems
    /// take `System` for `system`.
    const RESERVED: &'static [&'static str];
}

/// A checked name: ASCII letters, digits and `_`, not starting with a digit, 1 to [`MAX_LENGTH`] bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name<K: Kind> {
    text: Box<str>,
    kind: PhantomData<K>,
}

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("the {noun} name is empty")]
    Empty {
        /// The kind of name that was asked for.
        noun: &'static str,
    },
    /// The text is longer than [`MAX_LENGTH`].
    #[error("the {noun} name `{name}` has {length} bytes; at most {MAX_LENGTH} are allowed")]
    TooLong {
        /// The kind of name that was asked for.
        noun: &'static str,
        /// The text.
        name: String,
        /// Its length in bytes.
        length: usize,
    },
    /// The text has a character that names do not have, or starts with a digit.
    #[error(
        "the {noun} name `{name}` may only have letters, digits and `_`, and must not start with a digit"
    )]
    Character {
        /// The kind of name that was asked for.
        noun: &'static str,
        /// The text.
        name: String,
    },
    /// The text has `__` inside or `_` at an end.
    #[error(
        "the {noun} name `{name}` must not contain `__` nor begin or end with `_`, \
         so that `view__feature` splits in one way only"
    )]
    Underscore {
        /// The kind of name that was asked for.
        noun: &'static str,
        /// The text.
        name: String,
    },
    /// The text is a name that Vintner keeps for itself.
    #[error("the {noun} name `{name}` is reserved: Vintner keeps its own tables under it")]
    Reserved {
        /// The kind of name that was asked for.
        noun: &'static str,
        /// The text.
        name: String,
    },
}

impl<K: Kind> Name<K> {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl<K: Kind> FromStr for Name<K> {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (noun, name) = (K::NOUN, || text.to_owned());
        let first = text.chars().next().ok_or(NameError::Empty { noun })?;
        if text.len() > MAX_LENGTH {
            return Err(NameError::TooLong {
                noun,
                name: name(),
                length: text.len(),
            });
        }
        if first.is_ascii_digit() || !text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(NameError::Character { noun, name: name() });
        }
        if K::STRICT && (text.contains("__") || text.starts_with('_') || text.ends_with('_')) {
            return Err(NameError::Underscore { noun, name: name() });
        }
        if K::RESERVED
            .iter()
            .any(|word| word.eq_ignore_ascii_case(text))
        {
            return Err(NameError::Reserved { noun, name: name() });
        }
        Ok(Self {
            text: text.into(),
            kind: PhantomData,
        })
    }
}

impl<K: Kind> fmt::Display for Name<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl<K: Kind> fmt::Debug for Name<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl<K: Kind> AsRef<str> for Name<K> {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

/// Lets maps keyed by a name be asked by text. `Ord` and `Hash` are those of the text.
impl<K: Kind> Borrow<str> for Name<K> {
    fn borrow(&self) -> &str {
        &self.text
    }
}

macro_rules! kinds {
    ($($marker:ident, $alias:ident, $noun:literal, $strict:literal, $reserved:expr;)*) => {$(
        #[doc = concat!("Marks the name of a ", $noun, ".")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $marker {}

        impl Kind for $marker {
            const NOUN: &'static str = $noun;
            const STRICT: bool = $strict;
            const RESERVED: &'static [&'static str] = &$reserved;
        }

        #[doc = concat!("The name of a ", $noun, ".")]
        pub type $alias = Name<$marker>;
    )*};
}

kinds! {
    Project, ProjectName, "project", true, [SYSTEM];
    Entity, EntityName, "entity", true, [];
    Source, SourceName, "source", true, [];
    View, ViewName, "feature view", true, [];
    Service, ServiceName, "feature service", true, [];
    Dataset, DatasetName, "dataset", true, [];
    Part, PartName, "part", true, [];
    Feature, FeatureName, "feature", false, [];
    Column, ColumnName, "column", false, [];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_break_full_feature_names_are_refused() {
        for (text, view, feature) in [
            ("weather", true, true),
            ("weather_2", true, true),
            ("W", true, true),
            ("", false, false),
            ("2weather", false, false),
            ("wea-ther", false, false),
            ("wéather", false, false),
            ("weather__now", false, true),
            ("_weather", false, true),
            ("weather_", false, true),
        ] {
            assert_eq!(text.parse::<ViewName>().is_ok(), view, "view {text:?}");
            assert_eq!(
                text.parse::<FeatureName>().is_ok(),
                feature,
                "feature {text:?}"
            );
        }
    }

    #[test]
    fn no_project_has_the_name_of_the_operational_tables() {
        for (text, project) in [
            ("system", false),
            ("System", false),
            ("SYSTEM", false),
            ("systems", true),
            ("my_system", true),
        ] {
            assert_eq!(text.parse::<ProjectName>().is_ok(), project, "{text:?}");
            assert!(text.parse::<ViewName>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn a_name_has_at_most_63_bytes() {
        assert!("a".repeat(MAX_LENGTH).parse::<ViewName>().is_ok());
        assert!("a".repeat(MAX_LENGTH + 1).parse::<ViewName>().is_err());
    }
}
