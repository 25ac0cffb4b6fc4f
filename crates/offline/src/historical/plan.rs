//! What a training dataset is made from and which columns it has. Pure: no I/O, no clock.

use std::{collections::BTreeMap, fmt, sync::Arc};

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use vintner_core::{Boundary, ColumnName, JoinKey, Knowledge, ViewId, VisibilityRule};
use vintner_join::{JoinSpec, OutputColumn, ViewInput, key_type_fits, time_type_fits};
use vintner_registry::{
    model::ViewRevision,
    selection::{Selection, Suggestion},
};

use super::{
    EntityRowsProblem, HistoricalError, NotATime,
    split::{self, PlannedSplit, Split},
};
use crate::delta::layout::EVENT_TIMESTAMP;

/// How a dataset is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatasetOptions {
    /// Whether values must have been known at the entity row's moment.
    pub knowledge: Knowledge,
    /// Whether rows at exactly that moment count.
    pub boundary: Boundary,
    /// The column of the entity rows that says the moment. Without it: `event_timestamp`, or the only timestamp.
    pub time_column: Option<String>,
    /// Into which parts the rows are split, if they are.
    pub split: Option<Split>,
    /// Whether what tells of leaks and gaps is counted too.
    pub lint: bool,
}

/// A training dataset, planned.
#[derive(Clone, Debug, PartialEq)]
pub struct DatasetPlan {
    /// What is joined with what.
    pub join: Arc<JoinSpec>,
    /// The view versions that are read, in the order of the join's views.
    pub views: Vec<Arc<ViewRevision>>,
    /// The columns of the entity rows.
    pub entity_schema: SchemaRef,
    /// The columns of the result.
    pub schema: SchemaRef,
    /// What the result's last column says, if the rows are split.
    pub(super) split: Option<PlannedSplit>,
    /// Whether what tells of leaks and gaps is counted too.
    pub lint: bool,
}

/// Plans a dataset of the selected features for entity rows with these columns.
///
/// # Errors
/// [`HistoricalError::EntityRows`] with everything that is wrong with the columns.
pub fn plan_dataset(
    selection: &Selection,
    options: &DatasetOptions,
    entity_schema: &SchemaRef,
) -> Result<DatasetPlan, HistoricalError> {
    let mut problems = Vec::new();
    check_names(selection, entity_schema, &mut problems);
    check_keys(selection, entity_schema, &mut problems);
    let time_column = match time_column(options, entity_schema) {
        Ok(column) => column,
        Err(problem) => {
            problems.push(problem);
            String::new()
        }
    };
    let split_by = match &options.split {
        Some(split) => split_by(split, selection, entity_schema, &mut problems),
        None => vec![],
    };
    if !problems.is_empty() {
        return Err(HistoricalError::EntityRows(problems));
    }
    let join = JoinSpec {
        time_column,
        views: selection
            .views
            .iter()
            .map(|view| view_input(view, options))
            .collect(),
        outputs: selection
            .columns
            .iter()
            .map(|column| OutputColumn {
                view: column.view,
                feature: column.feature.name.clone(),
                name: column.name.clone(),
                default: column.feature.default.clone(),
            })
            .collect(),
    };
    let mut schema = join
        .schema(entity_schema)
        .map_err(|err| DataFusionError::External(Box::new(err)))?;
    let split = match &options.split {
        Some(split) => {
            schema = with_split(&schema);
            let planned = split.planned(split_by, &join.time_column);
            Some(planned.map_err(|err| DataFusionError::External(Box::new(err)))?)
        }
        None => None,
    };
    Ok(DatasetPlan {
        join: Arc::new(join),
        views: selection.views.clone(),
        entity_schema: SchemaRef::clone(entity_schema),
        schema,
        split,
        lint: options.lint,
    })
}

/// The columns, and the one that a split adds.
fn with_split(schema: &Schema) -> SchemaRef {
    let mut fields = schema.fields().to_vec();
    fields.push(Arc::new(split::field()));
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The columns whose values decide a split: those that it names, or all join keys. None for a split by time.
fn split_by(
    split: &Split,
    selection: &Selection,
    entity_schema: &Schema,
    problems: &mut Vec<EntityRowsProblem>,
) -> Vec<JoinKey> {
    let outputs = selection.columns.iter().map(|column| column.name.as_str());
    if names(entity_schema)
        .into_iter()
        .chain(outputs)
        .any(|name| name == split::SPLIT)
    {
        problems.push(EntityRowsProblem::SplitTaken);
    }
    let keys: BTreeMap<&ColumnName, &JoinKey> = selection
        .views
        .iter()
        .flat_map(|view| view.keys())
        .map(|key| (&key.name, key))
        .collect();
    let named = match (split.is_by_time(), split.by()) {
        (true, _) => return vec![],
        (false, None) => return keys.into_values().cloned().collect(),
        (false, Some(named)) => named,
    };
    let mut columns = Vec::with_capacity(named.len());
    for name in named {
        if let Some(&key) = keys.get(name) {
            columns.push(key.clone());
            continue;
        }
        let found = entity_schema.column_with_name(name.as_str());
        match found.map(|(_, field)| (field, split::hashed_as(field.data_type()))) {
            Some((_, Some(key_type))) => columns.push(JoinKey {
                name: name.clone(),
                key_type,
            }),
            Some((field, None)) => problems.push(EntityRowsProblem::SplitType {
                name: name.clone(),
                found: field.data_type().clone(),
            }),
            None => problems.push(EntityRowsProblem::MissingSplit {
                name: name.clone(),
                suggestion: Suggestion::among(name.as_str(), names(entity_schema)),
            }),
        }
    }
    columns
}

fn view_input(view: &ViewRevision, options: &DatasetOptions) -> ViewInput {
    ViewInput {
        view: view.id.clone(),
        keys: view.join_keys.clone(),
        rule: VisibilityRule {
            ttl: view.ttl,
            knowledge: options.knowledge,
            boundary: options.boundary,
        },
        features: view
            .features
            .iter()
            .map(|feature| (feature.name.clone(), feature.feature_type))
            .collect(),
    }
}

fn check_names(
    selection: &Selection,
    entity_schema: &Schema,
    problems: &mut Vec<EntityRowsProblem>,
) {
    let mut seen = BTreeMap::new();
    for field in entity_schema.fields() {
        *seen.entry(field.name().as_str()).or_insert(0) += 1;
    }
    let twice = seen.iter().filter(|(_, count)| **count > 1);
    problems.extend(twice.map(|(name, _)| EntityRowsProblem::Duplicate((*name).to_owned())));
    let columns = selection.columns.iter();
    let collisions = columns.filter(|column| seen.contains_key(column.name.as_str()));
    problems.extend(collisions.map(|column| EntityRowsProblem::Collision {
        is_full: column.name != column.feature.name.as_str(),
        name: column.name.clone(),
    }));
}

fn check_keys(
    selection: &Selection,
    entity_schema: &Schema,
    problems: &mut Vec<EntityRowsProblem>,
) {
    let mut keys: BTreeMap<&JoinKey, Vec<ViewId>> = BTreeMap::new();
    for view in &selection.views {
        for key in view.keys() {
            keys.entry(key).or_default().push(view.id.clone());
        }
    }
    for (key, views) in keys {
        let key = key.clone();
        match entity_schema.column_with_name(key.name.as_str()) {
            None => problems.push(EntityRowsProblem::MissingKey {
                suggestion: Suggestion::among(key.name.as_str(), names(entity_schema)),
                key,
                views,
            }),
            Some((_, field)) if !key_type_fits(field.data_type(), key.key_type) => {
                problems.push(EntityRowsProblem::KeyType {
                    found: field.data_type().clone(),
                    key,
                    views,
                });
            }
            Some(_) => {}
        }
    }
}

/// The column that says the moment: the one that was named, else `event_timestamp`, else the only timestamp.
fn time_column(
    options: &DatasetOptions,
    entity_schema: &Schema,
) -> Result<String, EntityRowsProblem> {
    let timestamps: Vec<String> = entity_schema
        .fields()
        .iter()
        .filter(|field| matches!(field.data_type(), DataType::Timestamp(..)))
        .map(|field| field.name().clone())
        .collect();
    let name = match (&options.time_column, timestamps.as_slice()) {
        (Some(name), _) => name.clone(),
        (None, _) if entity_schema.column_with_name(EVENT_TIMESTAMP).is_some() => {
            EVENT_TIMESTAMP.to_owned()
        }
        (None, [only]) => only.clone(),
        (None, []) => return Err(EntityRowsProblem::NoTime),
        (None, several) => return Err(EntityRowsProblem::AmbiguousTime(several.to_vec())),
    };
    match entity_schema.column_with_name(&name) {
        None => Err(EntityRowsProblem::MissingTime {
            suggestion: Suggestion::among(&name, names(entity_schema)),
            name,
        }),
        Some((_, field)) if time_type_fits(field.data_type()) => Ok(name),
        Some((_, field)) => Err(EntityRowsProblem::TimeType {
            name,
            found: field.data_type().clone(),
            advice: match field.data_type() {
                found if is_text(found) => NotATime::Text,
                found if found.is_numeric() => NotATime::Number,
                _ => NotATime::Other,
            },
        }),
    }
}

fn is_text(found: &DataType) -> bool {
    match found {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

fn names(schema: &Schema) -> Vec<&str> {
    schema.fields().iter().map(|f| f.name().as_str()).collect()
}

/// For people: what is joined, then the result's columns.
impl fmt::Display for DatasetPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "time: {}", self.join.time_column)?;
        for view in &self.join.views {
            writeln!(f, "view: {view}")?;
        }
        let entity_columns = self.entity_schema.fields().len();
        for (i, field) in self.schema.fields().iter().enumerate() {
            let output = i.checked_sub(entity_columns);
            let output = output.and_then(|output| self.join.outputs.get(output));
            write!(f, "column: {} {}", field.name(), field.data_type())?;
            match output {
                None => writeln!(f)?,
                Some(output) => {
                    let view = &self.join.views[output.view].view;
                    write!(f, " = {view}:{}", output.feature)?;
                    match &output.default {
                        Some(default) => writeln!(f, " or {default}")?,
                        None => writeln!(f)?,
                    }
                }
            }
        }
        Ok(())
    }
}
