//! Entity columns of an online request, read as the join keys' types.

use arrow::array::RecordBatch;
use vintner_core::{JoinKey, KeyType, KeyValue, Value, arrow_values, nearest::nearest};
use vintner_registry::selection::Selection;

use crate::{
    api::EntityColumn,
    error::{Fault, OpsError},
};

/// The entities of a request: every join key of the selection, with one value per entity.
#[derive(Debug)]
pub(super) struct Entities {
    columns: Vec<(JoinKey, Vec<Option<KeyValue>>)>,
}

impl Entities {
    /// Reads the columns of a request.
    ///
    /// # Errors
    /// Names a join key without a column, a column that is no join key, a value that is not of the key's type, and
    /// columns of different lengths.
    pub(super) fn read(selection: &Selection, given: &[EntityColumn]) -> Result<Self, OpsError> {
        let schema = selection
            .join_keys()
            .map_err(|error| OpsError::from_error(Fault::Request, error))?;
        let join_keys = schema.join_keys();
        let known = || join_keys.iter().map(|key| key.name.as_str());
        let count = given.first().map_or(0, |column| column.values.len());
        for (i, column) in given.iter().enumerate() {
            if column.values.len() != count {
                return Err(refused(format!(
                    "the join key `{}` has {} values and `{}` has {count}; give each one value per entity",
                    column.name,
                    column.values.len(),
                    given.first().map_or("", |first| first.name.as_str()),
                )));
            }
            if given
                .iter()
                .take(i)
                .any(|earlier| earlier.name == column.name)
            {
                return Err(refused(format!(
                    "the join key `{}` is given twice",
                    column.name
                )));
            }
            if !known().any(|key| key == column.name) {
                let hint = nearest(&column.name, known()).map_or_else(
                    || {
                        format!(
                            "the join keys are {}",
                            known().collect::<Vec<_>>().join(", ")
                        )
                    },
                    |name| format!("did you mean `{name}`?"),
                );
                return Err(refused(format!(
                    "`{}` is no join key of the features that are asked for; {hint}",
                    column.name
                )));
            }
        }
        let columns = join_keys.iter().map(|key| {
            let column = given.iter().find(|column| column.name == key.name.as_str()).ok_or_else(|| {
                refused(format!(
                    "the join key `{}` ({}) is missing; the features that are asked for need {}",
                    key.name,
                    key.key_type,
                    known().collect::<Vec<_>>().join(", ")
                ))
            })?;
            let values = column.values.iter().map(|value| value.as_ref().map(|value| key_value(key, value)).transpose());
            Ok((key.clone(), values.collect::<Result<_, _>>()?))
        });
        Ok(Self {
            columns: columns.collect::<Result<_, OpsError>>()?,
        })
    }

    /// The entities as Arrow columns, one per join key.
    pub(super) fn batch(&self) -> Result<RecordBatch, OpsError> {
        let columns = self.columns.iter().map(|(key, values)| {
            let column = arrow_values::key_column(key.key_type, values.iter().map(Option::as_ref));
            (key.name.as_str(), column, true)
        });
        RecordBatch::try_from_iter_with_nullable(columns)
            .map_err(|error| OpsError::from_error(Fault::Internal, error))
    }

    /// The columns as they were read.
    pub(super) fn into_columns(self) -> Vec<EntityColumn> {
        let columns = self.columns.into_iter();
        columns
            .map(|(key, values)| EntityColumn {
                name: key.name.to_string(),
                values: values
                    .into_iter()
                    .map(|value| value.map(Value::from))
                    .collect(),
            })
            .collect()
    }
}

fn refused(message: String) -> OpsError {
    OpsError::new(Fault::Request, message)
}

/// Reads a value as a join key's: text in any type, integers in any integer type that holds them.
fn key_value(key: &JoinKey, value: &Value) -> Result<KeyValue, OpsError> {
    let wrong = || {
        refused(format!(
            "`{value}` is not a value of the {} join key `{}`",
            key.key_type, key.name
        ))
    };
    match (key.key_type, value) {
        (key_type, Value::String(text)) => {
            KeyValue::parse(text, &key.name, key_type).map_err(|error| refused(error.to_string()))
        }
        (KeyType::Bool, Value::Bool(v)) => Ok(KeyValue::Bool(*v)),
        (KeyType::Int32, Value::Int32(v)) => Ok(KeyValue::Int32(*v)),
        (KeyType::Int32, Value::Int64(v)) => {
            i32::try_from(*v).map(KeyValue::Int32).map_err(|_| wrong())
        }
        (KeyType::Int64, Value::Int32(v)) => Ok(KeyValue::Int64((*v).into())),
        (KeyType::Int64, Value::Int64(v)) => Ok(KeyValue::Int64(*v)),
        (KeyType::Bytes, Value::Bytes(v)) => Ok(KeyValue::Bytes(v.clone())),
        _ => Err(wrong()),
    }
}
