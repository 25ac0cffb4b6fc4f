//! `get-online`

use std::{collections::BTreeMap, time::Duration};

use vintner_core::{Column, ColumnValues, Value};
use vintner_ops::api::{After, EntityColumn, OnlineRequest, OnlineResponse};

use crate::{
    args::{Format, GetOnline, Global},
    commands::historical::{feature_request, name_style},
    deployment,
    exit::{Exit, Failure},
    json, output,
};

/// How long to wait for an online store that does not have rows that must be seen.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) async fn get_online(global: &Global, args: GetOnline) -> Result<Exit, Failure> {
    let request = OnlineRequest {
        features: feature_request(args.features)?,
        names: name_style(args.full_names),
        entities: entity_columns(&args.entities)?,
        after: After {
            tokens: args.after,
            patience: PATIENCE,
        },
    };
    let response = deployment::open(global).await?.get_online(request).await?;
    match global.format {
        Format::Json => output::json(&json::online(&response))?,
        Format::Table => {
            for (entity, vector) in vectors(&response) {
                show(entity, vector)?;
            }
        }
    }
    Ok(Exit::Done)
}

/// Columns from `key=value,key=value` texts, one per entity; each must name the same keys.
pub(super) fn entity_columns(entities: &[String]) -> Result<Vec<EntityColumn>, Failure> {
    let mut columns: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (row, entity) in entities.iter().enumerate() {
        for pair in entity.split(',') {
            let (key, value) = pair
                .split_once('=')
                .filter(|(key, _)| !key.trim().is_empty())
                .ok_or_else(|| {
                    Failure::input(format!(
                        "--entity {entity}: `{pair}` is not KEY=VALUE, as in `origin=JFK,dest=LAX`"
                    ))
                })?;
            let column = columns.entry(key.trim()).or_default();
            if column.len() > row {
                return Err(Failure::input(format!(
                    "--entity {entity}: the key `{key}` is there twice"
                )));
            }
            if column.len() < row {
                return Err(Failure::input(format!(
                    "--entity {entity}: the key `{key}` is not in every --entity; give each the same keys"
                )));
            }
            column.push(value.to_owned());
        }
        if let Some((key, _)) = columns.iter().find(|(_, values)| values.len() != row + 1) {
            return Err(Failure::input(format!(
                "--entity {entity}: the key `{key}` is missing; give each the same keys"
            )));
        }
    }
    let columns = columns.into_iter().map(|(name, values)| {
        let values = Column::new(ColumnValues::String(values), Vec::new());
        Ok(EntityColumn {
            name: name.to_owned(),
            values: values.map_err(Failure::input)?,
        })
    });
    columns.collect()
}

/// Prints one entity's features: on a terminal under its key, in a pipe with its key in every line.
fn show(entity: String, mut vector: Vec<Vec<String>>) -> std::io::Result<()> {
    let head = ["entity", "feature", "value", "status", "event time"];
    if output::is_terminal() {
        output::text(&entity)?;
        return output::rows(&head[1..], vector);
    }
    for line in &mut vector {
        line.insert(0, entity.clone());
    }
    output::rows(&head, vector)
}

/// Each entity's key, and a line for each of its features: name, value, status, event time.
fn vectors(response: &OnlineResponse) -> Vec<(String, Vec<Vec<String>>)> {
    let count = response
        .entities
        .first()
        .map_or(0, |column| column.values.len());
    let text = |value: Option<Value>| value.map_or("null".to_owned(), |value| value.to_string());
    let vector = |row: usize| {
        let entity = response
            .entities
            .iter()
            .map(|key| format!("{}={}", key.name, text(key.values.get(row))));
        let features = response.features.iter().map(|feature| {
            let event = response
                .event_timestamps(feature)
                .get(row)
                .copied()
                .flatten();
            let status = feature.statuses.get(row);
            vec![
                feature.name.clone(),
                text(feature.values.get(row)),
                status.map_or(String::new(), ToString::to_string),
                event.map_or(String::new(), |time| time.to_string()),
            ]
        });
        (entity.collect::<Vec<_>>().join(","), features.collect())
    };
    (0..count).map(vector).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(entities: &[&str]) -> Result<Vec<EntityColumn>, Failure> {
        entity_columns(&entities.iter().map(|e| (*e).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn each_entity_names_the_same_keys() {
        let read = columns(&["origin=JFK,dest=LAX", "dest=BOS,origin=EWR"]).unwrap();
        assert_eq!(
            read.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
            ["dest", "origin"]
        );
        assert_eq!(
            read[0].values.iter().collect::<Vec<_>>(),
            [
                Some(Value::String("LAX".into())),
                Some(Value::String("BOS".into()))
            ]
        );
        assert_eq!(
            columns(&["k=a=b"]).unwrap()[0]
                .values
                .iter()
                .collect::<Vec<_>>(),
            [Some(Value::String("a=b".into()))]
        );
        for wrong in [
            &["origin"][..],
            &["=JFK"],
            &["a=1,a=2"],
            &["a=1", "b=1"],
            &["a=1,b=2", "a=1"],
            &["a=1", "a=1,b=2"],
        ] {
            assert!(columns(wrong).is_err(), "{wrong:?}");
        }
    }
}
