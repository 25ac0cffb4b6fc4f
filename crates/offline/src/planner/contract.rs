//! Whether a query keeps its view's promise, and how types are written in SQL.

use vintner_core::{FeatureField, FeatureType, ScalarType};

use super::{
    output::Planned,
    problem::{Finding, ProblemPlace},
};

impl Planned<'_> {
    /// Whether the query keeps the view's promise.
    pub(super) fn contract(&self, features: &[(usize, FeatureField)], findings: &mut Vec<Finding>) {
        for promised in &self.view.contract {
            let at = || ProblemPlace::Feature(promised.name.clone());
            let name = &promised.name;
            if let Some(default) = &promised.default
                && default.feature_type() != promised.feature_type
            {
                let message = format!(
                    "the default of `{name}` is {}, and the feature is {}",
                    default.feature_type(),
                    promised.feature_type
                );
                findings.push(Finding::new(at(), "plan::default_type", message));
            }
            match features.iter().find(|(_, feature)| feature.name == *name) {
                Some((_, feature)) if feature.feature_type == promised.feature_type => {}
                Some((index, feature)) => {
                    let message = format!(
                        "`{name}` is declared as {} and is {} in the query",
                        promised.feature_type, feature.feature_type
                    );
                    findings.push(
                        Finding::new(at(), "plan::feature_type", message).help(format!(
                            "declare {}, or cast it in the query: `CAST({} AS {}) AS {name}`",
                            feature.feature_type,
                            self.written.expression(*index, name.as_str()),
                            sql_type(promised.feature_type)
                        )),
                    );
                }
                None if self.index(name.as_str()).is_some() => {
                    // A column with a problem of its own has been reported; a key or a time is none of the features.
                    let key = self
                        .view
                        .join_keys
                        .join_keys()
                        .iter()
                        .any(|k| k.name.as_str() == name.as_str());
                    if key {
                        let message = format!("`{name}` is a join key, not a feature");
                        findings.push(
                            Finding::new(at(), "plan::missing_feature", message)
                                .help("leave it out here"),
                        );
                    }
                }
                None => {
                    let message = format!("the query gives no column `{name}`");
                    let names = features.iter().map(|(_, feature)| feature.name.as_str());
                    findings.push(
                        Finding::new(at(), "plan::missing_feature", message)
                            .nearest(name.as_str(), names),
                    );
                }
            }
        }
    }
}

/// The type as SQL writes it.
pub(super) fn sql_type(feature_type: FeatureType) -> String {
    let scalar = |scalar| match scalar {
        ScalarType::Bool => "BOOLEAN",
        ScalarType::Int32 => "INT",
        ScalarType::Int64 => "BIGINT",
        ScalarType::Float32 => "FLOAT",
        ScalarType::Float64 => "DOUBLE",
        ScalarType::String => "VARCHAR",
        ScalarType::Bytes => "BYTEA",
        ScalarType::Timestamp => "TIMESTAMP",
    };
    match feature_type {
        FeatureType::Scalar(element) => scalar(element).to_owned(),
        FeatureType::List(element) => format!("{}[]", scalar(element)),
    }
}
