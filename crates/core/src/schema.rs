//! What a feature view's rows are made of: the join keys and the features.

use crate::{
    entity_key::KeyType,
    feature_type::FeatureType,
    name::{ColumnName, FeatureName},
    value::Value,
};

/// One join key: a column and its type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JoinKey {
    /// The column, in the view's query and in the entity rows.
    pub name: ColumnName,
    /// Its type.
    pub key_type: KeyType,
}

/// The join keys of a view in the order of their names, which is the order of the key encoding. At least one, no
/// name twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeySchema(Vec<JoinKey>);

/// Why join keys do not make a key schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySchemaError {
    /// No join key at all.
    #[error("there is no join key; declare at least one")]
    Empty,
    /// One name twice.
    #[error("the join key `{0}` is there twice")]
    Duplicate(ColumnName),
}

impl KeySchema {
    /// The key schema of these join keys, in whatever order they come.
    ///
    /// # Errors
    /// [`KeySchemaError`] without a join key, or with one name twice.
    pub fn new(mut join_keys: Vec<JoinKey>) -> Result<Self, KeySchemaError> {
        join_keys.sort();
        if join_keys.is_empty() {
            return Err(KeySchemaError::Empty);
        }
        match join_keys
            .windows(2)
            .find(|pair| pair[0].name == pair[1].name)
        {
            Some(pair) => Err(KeySchemaError::Duplicate(pair[0].name.clone())),
            None => Ok(Self(join_keys)),
        }
    }

    /// The join keys in the order of their names.
    pub fn join_keys(&self) -> &[JoinKey] {
        &self.0
    }

    /// How many join keys there are; never 0.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// One feature of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureField {
    /// The feature's name, which is its column's.
    pub name: FeatureName,
    /// Its type.
    pub feature_type: FeatureType,
    /// What takes the place of a null or missing value, on both paths alike; of the feature's type.
    pub default: Option<Value>,
    /// For people; may be empty.
    pub description: String,
}
