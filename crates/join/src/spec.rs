//! What is joined with what: the operator's description, as plain data.

use std::{fmt, sync::Arc};

use arrow::datatypes::{Field, Schema, SchemaRef};
use vintner_core::{
    Boundary, FeatureName, FeatureType, KeySchema, Knowledge, Value, ViewId, VisibilityRule,
};

/// A point-in-time join of entity rows with feature views.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinSpec {
    /// The column of the entity rows that says which moment each of them asks about.
    pub time_column: String,
    /// The views, each read once.
    pub views: Vec<ViewInput>,
    /// The columns that follow those of the entity rows, in this order.
    pub outputs: Vec<OutputColumn>,
}

/// One view as the join reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewInput {
    /// Which one.
    pub view: ViewId,
    /// Its join keys; the entity rows have columns of the same names.
    pub keys: KeySchema,
    /// Which of its rows count at a moment.
    pub rule: VisibilityRule,
    /// All its features, whether they are asked for or not: they decide between rows of equal times.
    pub features: Vec<(FeatureName, FeatureType)>,
}

/// One column of features in the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputColumn {
    /// The view, by its place in [`JoinSpec::views`].
    pub view: usize,
    /// The feature.
    pub feature: FeatureName,
    /// The column's name in the result.
    pub name: String,
    /// What takes the place of a null or missing value.
    pub default: Option<Value>,
}

/// Why a description does not describe a join.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// An output column of a view that is not there.
    #[error(
        "the output column `{column}` is of the view in place {view}, counted from 0, but there are {views}"
    )]
    View {
        /// The output column.
        column: String,
        /// The view's number.
        view: usize,
        /// How many there are.
        views: usize,
    },
    /// An output column of a feature that its view does not have.
    #[error("the output column `{column}` is the feature `{feature}`, which {view} does not have")]
    Feature {
        /// The output column.
        column: String,
        /// The feature.
        feature: FeatureName,
        /// The view.
        view: ViewId,
    },
    /// A default of another type than the feature's.
    #[error("the default of the output column `{column}` is of type {found}, not {wanted}")]
    Default {
        /// The output column.
        column: String,
        /// The feature's type.
        wanted: FeatureType,
        /// The default's.
        found: FeatureType,
    },
    /// Two columns of the result with one name.
    #[error("the result would have two columns `{0}`")]
    Duplicate(String),
}

impl JoinSpec {
    /// The result's columns: those of the entity rows as they are, then the outputs, all of which may be null.
    ///
    /// # Errors
    /// [`SpecError`] when the description contradicts itself, or an output column has the name of another column.
    pub fn schema(&self, entity_rows: &Schema) -> Result<SchemaRef, SpecError> {
        let mut fields = entity_rows.fields().to_vec();
        for output in &self.outputs {
            let (_, feature_type) = self.feature(output)?;
            if fields.iter().any(|field| *field.name() == output.name) {
                return Err(SpecError::Duplicate(output.name.clone()));
            }
            fields.push(Arc::new(Field::new(
                &output.name,
                feature_type.arrow(),
                true,
            )));
        }
        Ok(Arc::new(Schema::new_with_metadata(
            fields,
            entity_rows.metadata().clone(),
        )))
    }

    /// The places of the features of a view that are asked for, ascending, each once.
    pub fn asked(&self, view: usize) -> Vec<usize> {
        let outputs = self.outputs.iter().filter(|output| output.view == view);
        let mut places: Vec<usize> = outputs
            .filter_map(|output| Some(self.feature(output).ok()?.0))
            .collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// The place of an output column's feature in its view, and its type.
    ///
    /// # Errors
    /// [`SpecError`] when there is no such view or feature, or the default is of another type.
    pub(crate) fn feature(&self, output: &OutputColumn) -> Result<(usize, FeatureType), SpecError> {
        let column = || output.name.clone();
        let view = self.views.get(output.view).ok_or_else(|| SpecError::View {
            column: column(),
            view: output.view,
            views: self.views.len(),
        })?;
        let mut features = view.features.iter().enumerate();
        let (place, (_, wanted)) = features
            .find(|(_, (name, _))| *name == output.feature)
            .ok_or_else(|| SpecError::Feature {
                column: column(),
                feature: output.feature.clone(),
                view: view.view.clone(),
            })?;
        let found = output.default.as_ref().map(Value::feature_type);
        match found.filter(|found| found != wanted) {
            Some(found) => Err(SpecError::Default {
                column: column(),
                wanted: *wanted,
                found,
            }),
            None => Ok((place, *wanted)),
        }
    }
}

/// For `EXPLAIN`: one line.
impl fmt::Display for JoinSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "time={}, views=[", self.time_column)?;
        for (i, view) in self.views.iter().enumerate() {
            write!(f, "{}{view}", if i == 0 { "" } else { ", " })?;
        }
        let names: Vec<_> = self.outputs.iter().map(|o| o.name.as_str()).collect();
        write!(f, "], outputs=[{}]", names.join(", "))
    }
}

/// For `EXPLAIN`: `weather@1 on (origin) ttl=6h`, then the modes that are not the default ones.
impl fmt::Display for ViewInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self
            .keys
            .join_keys()
            .iter()
            .map(|k| k.name.as_str())
            .collect();
        write!(f, "{} on ({})", self.view, keys.join(", "))?;
        if let Some(ttl) = self.rule.ttl {
            write!(f, " ttl={ttl}")?;
        }
        match self.rule.knowledge {
            Knowledge::Event => {}
            Knowledge::Available => f.write_str(" knowledge=available")?,
        }
        match self.rule.boundary {
            Boundary::At => Ok(()),
            Boundary::Before => f.write_str(" boundary=before"),
        }
    }
}

#[cfg(test)]
mod tests {
    use vintner_core::{JoinKey, KeyType, ScalarType, Ttl};

    use super::*;

    #[test]
    fn a_join_is_described_in_one_line() {
        let key = |name: &str| JoinKey {
            name: name.parse().unwrap(),
            key_type: KeyType::String,
        };
        let int = FeatureType::Scalar(ScalarType::Int64);
        let weather = ViewInput {
            view: "weather@1".parse().unwrap(),
            keys: KeySchema::new(vec![key("origin")]).unwrap(),
            rule: VisibilityRule {
                ttl: Ttl::from_micros(6 * 3_600_000_000),
                knowledge: Knowledge::Event,
                boundary: Boundary::At,
            },
            features: vec![("b".parse().unwrap(), int), ("a".parse().unwrap(), int)],
        };
        let routes = ViewInput {
            view: "routes@2".parse().unwrap(),
            keys: KeySchema::new(vec![key("origin"), key("dest")]).unwrap(),
            rule: VisibilityRule {
                ttl: None,
                knowledge: Knowledge::Available,
                boundary: Boundary::Before,
            },
            ..weather.clone()
        };
        let output = |view, feature: &str, name: &str| OutputColumn {
            view,
            feature: feature.parse().unwrap(),
            name: name.to_owned(),
            default: None,
        };
        let spec = JoinSpec {
            time_column: "time".to_owned(),
            views: vec![weather, routes],
            outputs: vec![
                output(0, "a", "weather__a"),
                output(1, "a", "routes__a"),
                output(0, "b", "weather__b"),
                output(0, "a", "again"),
            ],
        };
        insta::assert_snapshot!(spec, @"time=time, views=[weather@1 on (origin) ttl=6h, routes@2 on (dest, origin) knowledge=available boundary=before], outputs=[weather__a, routes__a, weather__b, again]");
        // Each feature that is asked for is read once.
        assert_eq!((spec.asked(0), spec.asked(1)), (vec![0, 1], vec![1]));
    }
}
