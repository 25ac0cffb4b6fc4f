//! The JSON answers of `--format json`. They are stable: fields are added, never renamed or removed; documented in
//! `docs/cli.md`.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};
use vintner_core::{FeatureType, Timestamp, Value};
use vintner_ops::{
    api::{
        Changes, Checkup, Deleted, Detail, Difference, EntitiesDeleted, Health, OnlineResponse,
        Problem, Run, Summary, Vacuumed, VacuumedFile, Version, ViewCompaction, ViewDeletion,
        ViewRun, ViewTeardown, ViewVacuum, ViewVerification, Work,
    },
    push_file::FileReport,
};
use vintner_registry::model::{About, ViewInput, ViewRevision};

/// A feature value: numbers, booleans and text as they are, times in RFC 3339, bytes in hexadecimal after `0x`.
/// JSON has no NaN and no infinity; they are the strings `NaN`, `inf` and `-inf`.
pub(crate) fn value(value: &Value) -> Json {
    match value {
        Value::Bool(v) => json!(v),
        Value::Int32(v) => json!(v),
        Value::Int64(v) => json!(v),
        Value::Float32(v) if v.is_finite() => json!(v),
        Value::Float64(v) if v.is_finite() => json!(v),
        Value::List(_, items) => items
            .iter()
            .map(|item| item.as_ref().map_or(Json::Null, self::value))
            .collect(),
        other => json!(other.to_string()),
    }
}

fn optional(option: Option<&Value>) -> Json {
    option.map_or(Json::Null, value)
}

fn time(time: Timestamp) -> Json {
    json!(time.to_string())
}

/// `get-online`
pub(crate) fn online(response: &OnlineResponse) -> Json {
    let count = response
        .entities
        .first()
        .map_or(0, |column| column.values.len());
    let entities: Vec<Json> = (0..count)
        .map(|row| {
            let keys = response.entities.iter();
            let keys = keys.map(|key| (key.name.clone(), optional(key.values.get(row).as_ref())));
            Json::Object(keys.collect())
        })
        .collect();
    let features: Map<String, Json> = response
        .features
        .iter()
        .map(|feature| {
            let column = json!({
                "view": response.views.get(feature.view).map(|view| view.view.to_string()),
                "values": feature.values.iter().map(|v| optional(v.as_ref())).collect::<Vec<_>>(),
                "statuses": feature.statuses.iter().map(|status| status.name()).collect::<Vec<_>>(),
                "event_timestamps": response.event_timestamps(feature).iter().map(|t| t.map(time)).collect::<Vec<_>>(),
            });
            (feature.name.clone(), column)
        })
        .collect();
    json!({ "entities": entities, "features": features })
}

/// `check`
pub(crate) fn problem(problem: &Problem) -> Json {
    json!({
        "severity": match problem.severity {
            vintner_ops::api::Severity::Error => "error",
            vintner_ops::api::Severity::Warning => "warning",
        },
        "code": problem.code,
        "message": problem.message,
        "help": problem.help,
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
    })
}

/// `plan`, `apply`, `diff`, `rollback`
pub(crate) fn changes(changes: &Changes) -> Json {
    let list: Vec<Json> = changes
        .changes
        .iter()
        .map(|change| {
            json!({
                "kind": change.kind.word(),
                "name": change.name,
                "action": change.action,
                "reasons": change.reasons,
                "data": change.data,
            })
        })
        .collect();
    json!({ "project": changes.project.as_str(), "base": changes.base.0, "changes": list })
}

/// `materialize`
pub(crate) fn view_run(run: &ViewRun) -> Json {
    json!({
        "view": run.view.to_string(),
        "plan": run.plan,
        "rows_read": run.rows_read,
        "rows_written": run.rows_written,
        "rows_left_out": run.rows_left_out,
        "online_written": run.online_written,
        "online_kept": run.online_kept,
        "online_held_back": run.online_held_back,
        "offline_micros": run.offline_micros,
        "online_micros": run.online_micros,
    })
}

/// `push`
pub(crate) fn pushed(report: &FileReport, micros: u64) -> Json {
    json!({
        "view": report.view.to_string(),
        "rows": report.rows,
        "already_there": report.already_there,
        "online": report.online,
        "late": report.late,
        "token": report.token.as_ref().map(ToString::to_string),
        "micros": micros,
    })
}

/// `compact`
pub(crate) fn compaction(done: &ViewCompaction) -> Json {
    json!({
        "view": done.view.to_string(),
        "table_version": done.table_version,
        "files_before": done.files_before,
        "files_removed": done.files_removed,
        "files_added": done.files_added,
        "bytes_removed": done.bytes_removed,
        "bytes_added": done.bytes_added,
        "rows": done.rows,
        "micros": done.micros,
    })
}

/// `verify`
pub(crate) fn verification(found: &ViewVerification) -> Json {
    let of = |kind: Difference| {
        let mut counts = found.differences.iter();
        counts
            .find(|(of, _)| *of == kind)
            .map_or(0, |(_, count)| *count)
    };
    let examples = found.examples.iter().map(|example| {
        json!({
            "difference": example.difference.word(),
            "entity": example.entity,
            "explanation": example.explanation,
        })
    });
    json!({
        "view": found.view.to_string(),
        "table_version": found.table_version,
        "loaded_version": found.loaded_version,
        "entities": found.keys,
        "same": found.same,
        "expired": found.expired,
        "missing": of(Difference::Missing),
        "extra": of(Difference::Extra),
        "older": of(Difference::Older),
        "newer": of(Difference::Newer),
        "different": of(Difference::Different),
        "corrupt": of(Difference::Corrupt),
        "not_loaded": found.not_loaded,
        "repaired": found.repaired,
        "settled": found.settled,
        "recent": found.recent,
        "held_back": found.held_back,
        "examples": examples.collect::<Vec<_>>(),
        "micros": found.micros,
    })
}

/// `teardown`
pub(crate) fn teardown(done: &ViewTeardown) -> Json {
    json!({
        "view": done.view.to_string(),
        "online_rows": done.online_rows,
        "files": done.files,
        "bytes": done.bytes,
    })
}

/// `delete`
pub(crate) fn deleted(done: &Deleted) -> Json {
    let view = |view: &ViewDeletion| {
        json!({
            "view": view.view.to_string(),
            "entities": view.entities,
            "found": view.found,
            "rows": view.rows,
            "online_rows": view.online_rows,
            "table_version": view.table_version,
            "files_removed": view.files_removed,
            "files_added": view.files_added,
            "bytes_added": view.bytes_added,
            "datasets": view.datasets.iter().map(|name| name.as_str()).collect::<Vec<_>>(),
            "micros": view.micros,
        })
    };
    json!({
        "views": done.views.iter().map(view).collect::<Vec<_>>(),
        "retired": done.retired.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// `doctor`
pub(crate) fn checkup(part: &Checkup) -> Json {
    json!({
        "part": part.part,
        "place": part.place,
        "health": health(part.health),
        "latency_micros": part.latencies.iter().cloned().collect::<BTreeMap<_, _>>(),
        "facts": part.facts.iter().cloned().collect::<BTreeMap<_, _>>(),
        "advice": part.advice,
    })
}

/// Whether a part works, in a word.
pub(crate) fn health(health: Health) -> &'static str {
    match health {
        Health::Good => "good",
        Health::Warning => "warning",
        Health::Broken => "broken",
    }
}

/// `vacuum`
pub(crate) fn vacuumed(done: &Vacuumed) -> Vec<Json> {
    let folders = done.folders.iter().map(|folder| {
        json!({
            "folder": folder.folder,
            "deleted": folder.deleted.iter().map(vacuumed_file).collect::<Vec<_>>(),
            "retained": folder.retained,
        })
    });
    done.views.iter().map(view_vacuum).chain(folders).collect()
}

fn vacuumed_file(file: &VacuumedFile) -> Json {
    json!({ "path": file.path, "bytes": file.bytes })
}

fn view_vacuum(done: &ViewVacuum) -> Json {
    let deleted = done.deleted.iter().map(vacuumed_file);
    let pinned = done
        .pinned
        .iter()
        .map(|file| json!({ "path": file.path, "bytes": file.bytes, "versions": file.versions }));
    json!({
        "view": done.view.to_string(),
        "deleted": deleted.collect::<Vec<_>>(),
        "pinned": pinned.collect::<Vec<_>>(),
        "retained": done.retained,
        "lost_versions": done.lost_versions,
    })
}

/// `runs`
pub(crate) fn run(run: &Run) -> Json {
    let (kind, mut json) = match &run.work {
        Work::Materialized(run) => ("materialize", view_run(run)),
        Work::Deleted(deleted) => ("delete", entities_deleted(deleted)),
    };
    if let Some(fields) = json.as_object_mut() {
        fields.insert("id".into(), json!(run.id));
        fields.insert("kind".into(), json!(kind));
        fields.insert("started_at".into(), time(run.started_at));
        fields.insert("finished_at".into(), time(run.finished_at));
        fields.insert("error".into(), json!(run.error));
    }
    json
}

fn entities_deleted(deleted: &EntitiesDeleted) -> Json {
    json!({
        "view": deleted.view.to_string(),
        "author": deleted.author,
        "entities": deleted.entities,
        "found": deleted.found,
        "rows": deleted.rows,
        "online_rows": deleted.online_rows,
    })
}

/// `list`
pub(crate) fn summary(summary: &Summary) -> Json {
    json!({
        "name": summary.name,
        "detail": summary.detail,
        "description": summary.description,
        "owner": summary.owner,
    })
}

/// `history`
pub(crate) fn version(version: &Version) -> Json {
    json!({
        "version": version.version.0,
        "created_at": time(version.created_at),
        "author": version.author,
        "reason": version.reason,
        "summary": version.summary,
    })
}

/// `show`
pub(crate) fn detail(detail: &Detail) -> Json {
    match detail {
        Detail::Entity { entity, used_by } => with_about(
            &entity.about,
            json!({
                "kind": "entity",
                "name": entity.name.as_str(),
                "join_keys": join_keys(entity.join_keys.join_keys()),
                "used_by": used_by.iter().map(|v| v.as_str()).collect::<Vec<_>>(),
            }),
        ),
        Detail::Source { source, used_by } => with_about(
            &source.about,
            json!({
                "kind": "source",
                "name": source.name.as_str(),
                "path": source.path,
                "format": format!("{:?}", source.format).to_lowercase(),
                "static": source.is_static,
                "event_timestamp": source.event_timestamp.as_ref().map(|c| c.as_str()),
                "created_timestamp": source.created_timestamp.as_ref().map(|c| c.as_str()),
                "columns": source.columns.iter()
                    .map(|(name, feature_type)| json!({ "name": name, "type": feature_type.to_string() }))
                    .collect::<Vec<_>>(),
                "used_by": used_by.iter().map(|v| v.as_str()).collect::<Vec<_>>(),
            }),
        ),
        Detail::FeatureView(detail) => {
            let mut json = revision(&detail.revision);
            if let Some(fields) = json.as_object_mut() {
                fields.insert(
                    "versions".into(),
                    detail
                        .versions
                        .iter()
                        .map(|id| json!(id.version.0))
                        .collect(),
                );
                fields.insert("used_by".into(), json!(detail.used_by));
                fields.insert("delta_version".into(), json!(detail.delta_version));
                fields.insert("rows".into(), json!(detail.rows));
                fields.insert("newest_event".into(), json!(detail.newest_event.map(time)));
                fields.insert("last_run".into(), json!(detail.last_run.as_ref().map(run)));
            }
            json
        }
        Detail::FeatureService { service, columns } => with_about(
            &service.about,
            json!({
                "kind": "feature_service",
                "name": service.name.as_str(),
                "features": service.features.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "columns": columns.iter()
                    .map(|c| json!({ "name": c.name, "type": c.feature_type.to_string(), "from": c.from }))
                    .collect::<Vec<_>>(),
            }),
        ),
    }
}

fn revision(view: &ViewRevision) -> Json {
    let (source, query) = match &view.input {
        ViewInput::Source(source) => (Some(source.as_str()), None),
        ViewInput::Query(query) => (None, Some(query.as_str())),
    };
    let features: Vec<Json> = view
        .features
        .iter()
        .map(|feature| {
            let lineage = view.lineage.get(&feature.name).into_iter().flatten();
            json!({
                "name": feature.name.as_str(),
                "type": feature.feature_type.to_string(),
                "default": optional(feature.default.as_ref()),
                "description": feature.description,
                "lineage": lineage.map(|c| format!("{}.{}", c.source, c.column)).collect::<Vec<_>>(),
            })
        })
        .collect();
    with_about(
        &view.about,
        json!({
            "kind": "feature_view",
            "name": view.id.name.as_str(),
            "version": view.id.version.0,
            "entities": view.entities.iter().map(|e| e.as_str()).collect::<Vec<_>>(),
            "join_keys": join_keys(view.keys()),
            "ttl_micros": view.ttl.map(|ttl| ttl.micros()),
            "lookback_micros": view.lookback.map(|ttl| ttl.micros()),
            "source": source,
            "query": query,
            "sources": view.sources.iter().map(|s| s.as_str()).collect::<Vec<_>>(),
            "event_timestamp": view.event_timestamp.as_ref().map(|c| c.as_str()),
            "created_timestamp": view.created_timestamp.as_ref().map(|c| c.as_str()),
            "refresh": crate::commands::catalog::refresh_word(&view.refresh),
            "refresh_reason": view.refresh_reason,
            "offline": view.offline,
            "online": view.online,
            "near_cache_bytes": view.near_cache.map(|size| size.bytes()),
            "features": features,
        }),
    )
}

fn join_keys(keys: &[vintner_core::JoinKey]) -> Json {
    keys.iter()
        .map(|key| {
            (
                key.name.to_string(),
                json!(FeatureType::Scalar(key.key_type.scalar()).to_string()),
            )
        })
        .collect::<Map<_, _>>()
        .into()
}

fn with_about(about: &About, mut json: Json) -> Json {
    if let Some(fields) = json.as_object_mut() {
        fields.insert("description".into(), json!(about.description));
        fields.insert("owner".into(), json!(about.owner));
        fields.insert("tags".into(), json!(about.tags));
    }
    json
}
