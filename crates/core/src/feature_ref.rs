//! How a request and a feature service name features: `view:feature`, or `view` for all of them.

use std::{fmt, str::FromStr};

use crate::{
    ids::{ViewIdError, ViewVersion},
    name::{FeatureName, NameError, ViewName},
};

/// One feature, or all features of a view; of the view's current version unless one is named.
///
/// Written `view`, `view:feature`, `view@2` or `view@2:feature`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeatureRef {
    /// The view.
    pub view: ViewName,
    /// A version of it that is pinned.
    pub version: Option<ViewVersion>,
    /// Which of its features.
    pub feature: FeatureSelector,
}

/// Which features of a view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FeatureSelector {
    /// All of them, in the view's order.
    All,
    /// One.
    One(FeatureName),
}

/// Why a text is not a [`FeatureRef`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeatureRefError {
    /// The view's part.
    #[error("`{text}` names no feature (write `view:feature`, or `view` for all): {reason}")]
    View {
        /// The whole text.
        text: String,
        /// What is wrong.
        reason: NameError,
    },
    /// The version's part.
    #[error("`{text}` names no feature: {reason}")]
    Version {
        /// The whole text.
        text: String,
        /// What is wrong.
        reason: ViewIdError,
    },
    /// The feature's part.
    #[error("`{text}` names no feature: {reason}")]
    Feature {
        /// The whole text.
        text: String,
        /// What is wrong.
        reason: NameError,
    },
}

impl FromStr for FeatureRef {
    type Err = FeatureRefError;

    fn from_str(text: &str) -> Result<Self, FeatureRefError> {
        let owned = || text.to_owned();
        let (view, feature) = match text.split_once(':') {
            Some((view, feature)) => (view, Some(feature)),
            None => (text, None),
        };
        let (view, version) = match view.split_once('@') {
            Some((view, version)) => (view, Some(version)),
            None => (view, None),
        };
        let version =
            version
                .map(str::parse)
                .transpose()
                .map_err(|reason| FeatureRefError::Version {
                    text: owned(),
                    reason,
                })?;
        let feature = feature
            .map(str::parse)
            .transpose()
            .map_err(|reason| FeatureRefError::Feature {
                text: owned(),
                reason,
            })?
            .map_or(FeatureSelector::All, FeatureSelector::One);
        let view = view.parse().map_err(|reason| FeatureRefError::View {
            text: owned(),
            reason,
        })?;
        Ok(Self {
            view,
            version,
            feature,
        })
    }
}

impl fmt::Display for FeatureRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.view)?;
        if let Some(version) = self.version {
            write!(f, "@{version}")?;
        }
        match &self.feature {
            FeatureSelector::All => Ok(()),
            FeatureSelector::One(feature) => write!(f, ":{feature}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_as_it_is_written() {
        for text in [
            "weather",
            "weather:temp",
            "weather@2",
            "weather@2:temp",
            "weather:_odd__name",
        ] {
            assert_eq!(text.parse::<FeatureRef>().unwrap().to_string(), text);
        }
        for text in [
            "",
            ":temp",
            "weather:",
            "weather@:temp",
            "weather@0:temp",
            "weather:a:b",
            "we__ather:temp",
            "a b",
        ] {
            assert!(text.parse::<FeatureRef>().is_err(), "{text:?}");
        }
    }
}
