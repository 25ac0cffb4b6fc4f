//! Entity columns of an online request, read as the join keys' types.

use vintner_core::{
    Column, ColumnValues, FeatureType, JoinKey, KeySchema, KeyType, KeyValue, Value,
    nearest::nearest,
};
use vintner_online::{EntityKeys, OnlineError, ReadPlan, view_keys};
use vintner_registry::model::ViewRevision;

use crate::{
    api::EntityColumn,
    error::{Fault, OpsError},
};

/// How the entities of requests for some features are read: which join keys there are, and which of them each view
/// takes. Made once for any number of requests.
#[derive(Debug)]
pub(super) struct EntityReader {
    join_keys: KeySchema,
    /// Per view of the plan, the places of its join keys among all of them.
    of_view: Vec<Vec<usize>>,
}

/// The entities of a request: every join key with one value per entity, in the order of their names.
#[derive(Debug)]
pub(super) struct Entities {
    columns: Vec<Column>,
    count: usize,
}

impl Entities {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The keys of a view that has all of the join keys; none for an entity without a value of one.
    pub(super) fn keys_of(&self, view: &ViewRevision) -> Result<EntityKeys, OnlineError> {
        view_keys(view, &self.columns.iter().collect::<Vec<_>>(), self.count)
    }
}

impl EntityReader {
    /// A reader for the plan's views, whose join keys together are these.
    pub(super) fn new(plan: &ReadPlan, join_keys: KeySchema) -> Self {
        let place = |key: &JoinKey| join_keys.join_keys().iter().position(|other| other == key);
        let of_view = plan
            .views()
            .map(|view| view.keys().iter().filter_map(place).collect())
            .collect();
        Self { join_keys, of_view }
    }

    /// Reads the columns of a request.
    ///
    /// # Errors
    /// As [`read`].
    pub(super) fn read(&self, given: Vec<EntityColumn>) -> Result<Entities, OpsError> {
        read(&self.join_keys, given, "the features that are asked for")
    }

    /// The entities' keys, per view of the plan.
    pub(super) fn keys(
        &self,
        plan: &ReadPlan,
        entities: &Entities,
    ) -> Result<Vec<EntityKeys>, OnlineError> {
        let views = plan.views().zip(&self.of_view);
        let keys = views.map(|(view, places)| {
            let columns: Vec<_> = places
                .iter()
                .filter_map(|&place| entities.columns.get(place))
                .collect();
            view_keys(view, &columns, entities.count)
        });
        keys.collect()
    }

    /// Whether another reader reads the same columns in the same way.
    pub(super) fn reads_as(&self, other: &Self) -> bool {
        self.join_keys == other.join_keys
    }

    /// The columns as they were read, with their names.
    pub(super) fn named(&self, entities: Entities) -> Vec<EntityColumn> {
        let columns = names(&self.join_keys).zip(entities.columns);
        columns
            .map(|(name, values)| EntityColumn {
                name: name.to_owned(),
                values,
            })
            .collect()
    }

    /// The columns as they were read, by their names.
    pub(super) fn columns<'a>(
        &'a self,
        entities: &'a Entities,
    ) -> impl Iterator<Item = (&'a str, &'a Column)> {
        names(&self.join_keys).zip(&entities.columns)
    }
}

/// Reads columns that have a value for each of some join keys. `whose` says of what these are, for people.
///
/// # Errors
/// Names a join key without a column, a column that is no join key, a value that is not of the key's type, and
/// columns of different lengths.
pub(super) fn read(
    join_keys: &KeySchema,
    given: Vec<EntityColumn>,
    whose: &str,
) -> Result<Entities, OpsError> {
    let count = given.first().map_or(0, |column| column.values.len());
    let mut columns: Vec<Option<Column>> = join_keys.join_keys().iter().map(|_| None).collect();
    let first = given
        .first()
        .map(|first| first.name.clone())
        .unwrap_or_default();
    for column in given {
        if column.values.len() != count {
            return Err(refused(format!(
                "the join key `{}` has {} values and `{first}` has {count}; give each one value per entity",
                column.name,
                column.values.len(),
            )));
        }
        let found = join_keys.join_keys().iter().zip(&mut columns);
        let mut found = found.filter(|(key, _)| key.name.as_str() == column.name);
        match found.next() {
            Some((key, place @ None)) => *place = Some(key_column(key, column.values)?),
            Some((_, Some(_))) => {
                return Err(refused(format!(
                    "the join key `{}` is given twice",
                    column.name
                )));
            }
            None => return Err(unknown(&column.name, join_keys, whose)),
        }
    }
    let columns = join_keys
        .join_keys()
        .iter()
        .zip(columns)
        .map(|(key, column)| {
            column.ok_or_else(|| {
                refused(format!(
                    "the join key `{}` ({}) is missing; the join keys of {whose} are {}",
                    key.name,
                    key.key_type,
                    names(join_keys).collect::<Vec<_>>().join(", ")
                ))
            })
        });
    Ok(Entities {
        columns: columns.collect::<Result<_, _>>()?,
        count,
    })
}

fn names(join_keys: &KeySchema) -> impl Iterator<Item = &str> + Clone {
    join_keys.join_keys().iter().map(|key| key.name.as_str())
}

fn unknown(name: &str, join_keys: &KeySchema, whose: &str) -> OpsError {
    let hint = match nearest(name, names(join_keys)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!(
            "the join keys are {}",
            names(join_keys).collect::<Vec<_>>().join(", ")
        ),
    };
    refused(format!("`{name}` is no join key of {whose}; {hint}"))
}

fn refused(message: String) -> OpsError {
    OpsError::new(Fault::Request, message)
}

/// Reads a column as a join key's: text in any type, integers in any integer type that holds them.
fn key_column(key: &JoinKey, given: Column) -> Result<Column, OpsError> {
    match (key.key_type, given.values()) {
        (KeyType::Bool, ColumnValues::Bool(_))
        | (KeyType::Int32, ColumnValues::Int32(_))
        | (KeyType::Int64, ColumnValues::Int64(_))
        | (KeyType::String, ColumnValues::String(_))
        | (KeyType::Bytes, ColumnValues::Bytes(_)) => Ok(given),
        _ => {
            let feature_type = FeatureType::Scalar(key.key_type.scalar());
            let values = given
                .iter()
                .map(|value| value.map(|value| key_value(key, &value)).transpose());
            let values = values.collect::<Result<Vec<_>, _>>()?;
            let values = values.into_iter().map(|value| value.map(Value::from));
            Column::of(feature_type, values)
                .map_err(|error| OpsError::from_error(Fault::Internal, error))
        }
    }
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
