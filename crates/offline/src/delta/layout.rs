//! Which columns a view's table has, in which order and types.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use deltalake::kernel::{ArrayType, DataType as DeltaType, PrimitiveType, StructField, StructType};
use vintner_core::ScalarType;
use vintner_registry::model::ViewRevision;

use super::error::DeltaError;

/// The column that says when a row was true.
pub const EVENT_TIMESTAMP: &str = "event_timestamp";
/// The column that says when a row became known.
pub const CREATED_TIMESTAMP: &str = "created_timestamp";

/// The columns of a view's table: join keys in the order of their names, `event_timestamp`, `created_timestamp`,
/// then features in the order of the view. Only features may be null.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewLayout {
    arrow: SchemaRef,
    keys: usize,
}

impl ViewLayout {
    /// The layout of a view's table.
    pub fn of(view: &ViewRevision) -> Self {
        let keys = view
            .keys()
            .iter()
            .map(|key| Field::new(key.name.as_str(), key.key_type.arrow(), false));
        let times = [EVENT_TIMESTAMP, CREATED_TIMESTAMP]
            .map(|name| Field::new(name, ScalarType::Timestamp.arrow(), false));
        let features = view
            .features
            .iter()
            .map(|f| Field::new(f.name.as_str(), f.feature_type.arrow(), true));
        let fields: Vec<_> = keys.chain(times).chain(features).collect();
        Self {
            arrow: Arc::new(Schema::new(fields)),
            keys: view.keys().len(),
        }
    }

    /// The columns as Arrow fields.
    pub fn arrow(&self) -> &SchemaRef {
        &self.arrow
    }

    /// How many join keys there are; they come first.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// The place of the column `event_timestamp`.
    pub fn event(&self) -> usize {
        self.keys
    }

    /// The place of the column `created_timestamp`.
    pub fn created(&self) -> usize {
        self.keys + 1
    }

    /// The places of the features.
    pub fn features(&self) -> std::ops::Range<usize> {
        self.keys + 2..self.arrow.fields().len()
    }

    /// The columns as Delta fields.
    ///
    /// # Errors
    /// [`DeltaError::Columns`] for two columns whose names differ only in upper and lower case, which Delta does not
    /// tell apart.
    pub(crate) fn delta(&self) -> Result<StructType, DeltaError> {
        delta_schema(&self.arrow)
    }

    /// The columns that file statistics are kept for: what scans are pruned by.
    pub(crate) fn statistics_columns(&self) -> Vec<String> {
        let ordered = |field: &&Arc<Field>| *field.data_type() != DataType::Binary;
        let columns = self.arrow.fields()[..self.keys + 2].iter();
        columns
            .filter(ordered)
            .map(|field| field.name().clone())
            .collect()
    }

    /// How the columns of a table differ from these, in words; none when they are the same but for their order.
    pub(crate) fn difference(&self, table: &StructType) -> Option<String> {
        let names = |found: Vec<&str>, what: &str| match found.as_slice() {
            [] => None,
            [one] => Some(format!("the feature `{one}` was {what}")),
            many => Some(format!("the features `{}` were {what}", many.join("`, `"))),
        };
        let fields = || self.arrow.fields().iter();
        let added = fields().filter(|f| table.field(f.name()).is_none());
        let changed = fields().filter(|f| {
            table
                .field(f.name())
                .is_some_and(|found| *found.data_type() != delta_type(f.data_type()))
        });
        let removed = table
            .fields()
            .filter(|f| self.arrow.field_with_name(f.name()).is_err());
        names(added.map(|f| f.name().as_str()).collect(), "added")
            .or_else(|| {
                names(
                    changed.map(|f| f.name().as_str()).collect(),
                    "given another type",
                )
            })
            .or_else(|| names(removed.map(|f| f.name().as_str()).collect(), "removed"))
    }
}

/// Arrow columns as Delta columns. Types that no view's table has become strings; callers give none.
pub(crate) fn delta_schema(arrow: &Schema) -> Result<StructType, DeltaError> {
    let fields = arrow
        .fields()
        .iter()
        .map(|f| StructField::new(f.name(), delta_type(f.data_type()), f.is_nullable()));
    StructType::try_new(fields).map_err(|source| DeltaError::Columns {
        source: Box::new(source),
    })
}

/// The Arrow columns that a table's data files have. Lists differ from [`vintner_core::FeatureType::arrow`] in the name of their
/// items, which Delta calls `element`.
pub(crate) fn file_schema(table: &StructType) -> SchemaRef {
    let fields: Vec<_> = table
        .fields()
        .map(|f| Field::new(f.name(), arrow_type(f.data_type()), f.is_nullable()))
        .collect();
    Arc::new(Schema::new(fields))
}

fn delta_type(arrow: &DataType) -> DeltaType {
    DeltaType::Primitive(match arrow {
        DataType::Boolean => PrimitiveType::Boolean,
        DataType::Int32 => PrimitiveType::Integer,
        DataType::Int64 => PrimitiveType::Long,
        DataType::Float32 => PrimitiveType::Float,
        DataType::Float64 => PrimitiveType::Double,
        DataType::Binary => PrimitiveType::Binary,
        DataType::Timestamp(..) => PrimitiveType::Timestamp,
        DataType::List(item) => {
            return ArrayType::new(delta_type(item.data_type()), true).into();
        }
        _ => PrimitiveType::String,
    })
}

fn arrow_type(delta: &DeltaType) -> DataType {
    let primitive = match delta {
        DeltaType::Primitive(primitive) => primitive,
        DeltaType::Array(array) => {
            let element = arrow_type(array.element_type());
            return DataType::List(Arc::new(Field::new("element", element, true)));
        }
        _ => return DataType::Utf8,
    };
    match primitive {
        PrimitiveType::Boolean => DataType::Boolean,
        PrimitiveType::Integer => DataType::Int32,
        PrimitiveType::Long => DataType::Int64,
        PrimitiveType::Float => DataType::Float32,
        PrimitiveType::Double => DataType::Float64,
        PrimitiveType::Binary => DataType::Binary,
        PrimitiveType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        _ => DataType::Utf8,
    }
}

#[cfg(test)]
mod tests {
    use vintner_core::{FeatureType, KeyType};

    use super::*;

    #[test]
    fn every_feature_type_has_a_delta_type() {
        for scalar in ScalarType::ALL {
            for feature_type in [FeatureType::Scalar(scalar), FeatureType::List(scalar)] {
                let field = Field::new("f", feature_type.arrow(), true);
                let schema = delta_schema(&Schema::new(vec![field])).unwrap();
                let back = file_schema(&schema);
                let found = FeatureType::holding(back.field(0).data_type());
                assert_eq!(found, Ok(feature_type));
            }
        }
    }

    #[test]
    fn every_key_type_has_a_delta_type() {
        for key_type in KeyType::ALL {
            let field = Field::new("k", key_type.arrow(), false);
            let back = file_schema(&delta_schema(&Schema::new(vec![field.clone()])).unwrap());
            assert_eq!(back.field(0), &field);
        }
    }
}
