//! `list` and `show`: what the registry holds.

use vintner_ops::api::{Detail, ObjectKind, ViewDetail};
use vintner_registry::model::{About, Refresh, ViewInput};

use super::materialize::what_was_done;
use crate::{
    args::{Format, Global, Kind},
    deployment,
    exit::{Exit, Failure},
    json, output,
};

pub(crate) async fn list(global: &Global, kind: Kind) -> Result<Exit, Failure> {
    let objects = deployment::open(global).await?.list(kind.into()).await?;
    match global.format {
        Format::Json => output::json(&objects.iter().map(json::summary).collect::<Vec<_>>())?,
        Format::Table => output::rows(
            &["name", "detail", "owner", "description"],
            objects
                .into_iter()
                .map(|o| vec![o.name, o.detail, o.owner, o.description])
                .collect(),
        )?,
    }
    Ok(Exit::Done)
}

pub(crate) async fn show(global: &Global, kind: Kind, name: &str) -> Result<Exit, Failure> {
    let detail = deployment::open(global)
        .await?
        .show(kind.into(), name)
        .await?;
    match global.format {
        Format::Json => output::json(&json::detail(&detail))?,
        Format::Table => output::text(&describe(&detail))?,
    }
    Ok(Exit::Done)
}

impl From<Kind> for ObjectKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Entity => Self::Entity,
            Kind::Source => Self::Source,
            Kind::FeatureView => Self::FeatureView,
            Kind::FeatureService => Self::FeatureService,
        }
    }
}

/// The refresh in one word.
pub(crate) fn refresh_word(refresh: &Refresh) -> &'static str {
    match refresh {
        Refresh::RowLocal { .. } => "row-local",
        Refresh::Static { .. } => "static",
        Refresh::Windowed => "windowed",
    }
}

/// Lines of `field: value`, those without a value left out, then tables.
pub(crate) struct Page(pub(crate) String);

impl Page {
    pub(crate) fn line(&mut self, field: &str, value: impl ToString) {
        let value = value.to_string();
        if !value.is_empty() {
            self.0
                .push_str(&format!("{:<17} {value}\n", format!("{field}:")));
        }
    }

    fn about(&mut self, about: &About) {
        self.line("description", &about.description);
        self.line("owner", &about.owner);
        self.line(
            "tags",
            joined(
                about
                    .tags
                    .iter()
                    .map(|(key, value)| format!("{key}={value}")),
            ),
        );
    }

    pub(crate) fn table(&mut self, head: &[&str], rows: Vec<Vec<String>>) {
        self.0.push('\n');
        self.0.push_str(&output::rows_text(head, rows));
    }
}

fn describe(detail: &Detail) -> String {
    let mut page = Page(String::new());
    match detail {
        Detail::Entity { entity, used_by } => {
            page.line("entity", &entity.name);
            page.about(&entity.about);
            let keys = entity.join_keys.join_keys().iter();
            page.line(
                "join keys",
                joined(keys.map(|key| format!("{} {}", key.name, key.key_type))),
            );
            page.line("used by", joined(used_by));
        }
        Detail::Source { source, used_by } => {
            page.line("source", &source.name);
            page.about(&source.about);
            page.line("path", &source.path);
            page.line("format", format!("{:?}", source.format).to_lowercase());
            page.line("event timestamp", option(source.event_timestamp.as_ref()));
            page.line(
                "created timestamp",
                option(source.created_timestamp.as_ref()),
            );
            page.line(
                "static",
                if source.is_static {
                    "yes: its rows have no time"
                } else {
                    ""
                },
            );
            page.line("used by", joined(used_by));
            let columns = source
                .columns
                .iter()
                .map(|(name, t)| vec![name.clone(), t.to_string()]);
            page.table(&["column", "type"], columns.collect());
        }
        Detail::FeatureView(view) => describe_view(&mut page, view),
        Detail::FeatureService { service, columns } => {
            page.line("feature service", &service.name);
            page.about(&service.about);
            page.line("features", joined(&service.features));
            let columns = columns
                .iter()
                .map(|c| vec![c.name.clone(), c.feature_type.to_string(), c.from.clone()]);
            page.table(&["column", "type", "from"], columns.collect());
        }
    }
    page.0
}

fn describe_view(page: &mut Page, detail: &ViewDetail) {
    let view = &detail.revision;
    page.line("feature view", &view.id);
    page.about(&view.about);
    page.line("entities", joined(&view.entities));
    page.line(
        "join keys",
        joined(
            view.keys()
                .iter()
                .map(|key| format!("{} {}", key.name, key.key_type)),
        ),
    );
    page.line(
        "ttl",
        view.ttl.map_or("none".to_owned(), |ttl| ttl.to_string()),
    );
    page.line(
        "refresh",
        format!("{}: {}", refresh_word(&view.refresh), view.refresh_reason),
    );
    page.line("lookback", option(view.lookback.as_ref()));
    page.line("event timestamp", option(view.event_timestamp.as_ref()));
    page.line(
        "created timestamp",
        view.created_timestamp
            .as_ref()
            .map_or("the run's time".to_owned(), ToString::to_string),
    );
    page.line(
        "stores",
        joined(
            [("offline", view.offline), ("online", view.online)]
                .iter()
                .filter(|s| s.1)
                .map(|s| s.0),
        ),
    );
    page.line("near cache", option(view.near_cache.as_ref()));
    page.line("sources", joined(&view.sources));
    page.line("versions", joined(&detail.versions));
    page.line("used by", joined(&detail.used_by));
    page.line(
        "rows",
        detail.rows.map_or("no run yet".to_owned(), output::count),
    );
    page.line("newest event", option(detail.newest_event.as_ref()));
    if let Some(run) = &detail.last_run {
        page.line(
            "last run",
            format!("{}: {}", run.finished_at, what_was_done(run)),
        );
    }
    if let ViewInput::Query(query) = &view.input {
        page.0.push_str("query:\n");
        for line in query.trim_end().lines() {
            page.0.push_str(&format!("  {line}\n"));
        }
    }
    let features = view.features.iter().map(|feature| {
        let lineage = view.lineage.get(&feature.name).into_iter().flatten();
        vec![
            feature.name.to_string(),
            feature.feature_type.to_string(),
            option(feature.default.as_ref()),
            joined(lineage.map(|column| format!("{}.{}", column.source, column.column))),
            feature.description.clone(),
        ]
    });
    page.table(
        &["feature", "type", "default", "from", "description"],
        features.collect(),
    );
}

fn joined<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items
        .into_iter()
        .map(|item| item.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

fn option<T: ToString>(value: Option<&T>) -> String {
    value.map_or(String::new(), ToString::to_string)
}
