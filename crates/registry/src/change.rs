//! What differs between two states of a project, in words: the one comparison under `plan`, `diff` and `rollback`.
//!
//! Every field of the model is compared, so two projects without a change between them are equal, but for what the
//! registry keeps for itself (layouts and the versions that have been used).

use std::{collections::BTreeMap, fmt};

use vintner_core::{EntityName, KeySchema, ServiceName, SourceName, ViewName, ViewVersion};

use crate::{
    model::{
        About, Entity, FeatureService, Project, Refresh, Source, SourceFormat, View, ViewRevision,
    },
    selection::listed,
};

mod revision;

pub(crate) use revision::RevisionDiff;

/// What changes about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The object.
    pub object: ObjectRef,
    /// What happens to it.
    pub action: Action,
    /// What is different about it, or what it is when it is new, in plain words.
    pub reasons: Vec<String>,
    /// What this means for data and for those who read it, in plain words.
    pub data: Vec<String>,
}

/// One object of a project.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its name.
    pub name: String,
}

/// The kinds of objects, in the order in which they build on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// An entity.
    Entity,
    /// A source.
    Source,
    /// A feature view.
    FeatureView,
    /// A feature service.
    FeatureService,
}

impl ObjectKind {
    /// Every kind, in the order they are shown.
    pub const ALL: [Self; 4] = [
        Self::Entity,
        Self::Source,
        Self::FeatureView,
        Self::FeatureService,
    ];

    /// The `kind` in YAML and JSON, and the word on the command line.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Entity => "entity",
            Self::Source => "source",
            Self::FeatureView => "feature_view",
            Self::FeatureService => "feature_service",
        }
    }
}

/// What happens to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It is new.
    Create,
    /// It changes, and no stored row becomes wrong.
    Update,
    /// A feature view goes over to another version, with a Delta table and online keys of its own.
    NewVersion {
        /// The version that is current before.
        from: ViewVersion,
        /// The version that is current afterwards: a greater one, or after a rollback a smaller one.
        to: ViewVersion,
    },
    /// A feature view gains features: its history is computed again.
    Backfill,
    /// It is no longer declared.
    Delete,
}

/// What differs between two states of a project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// The changes that lead from the first to the second, by kind and name.
    pub changes: Vec<Change>,
}

/// Compares two states of a project.
///
/// Out: one change for each object that is not the same in both, by kind and name.
pub fn diff(before: &Project, after: &Project) -> Diff {
    let Project {
        entities,
        sources,
        views,
        services,
        versions_used: _,
        retired: _,
    } = before;
    let mut changes = Vec::new();
    compare(entities, &after.entities, &mut changes, entity_change);
    compare(sources, &after.sources, &mut changes, |b, a| {
        source_change(b, a, after)
    });
    compare(views, &after.views, &mut changes, |b, a| {
        view_change(b, a, before, after)
    });
    compare(services, &after.services, &mut changes, service_change);
    Diff { changes }
}

impl Diff {
    /// Whether the two are the same.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// How many changes there are of each action: `1 to create, 2 new versions`. Empty without a change.
    pub fn summary(&self) -> String {
        let count = |like: fn(&Action) -> bool| {
            let same = self.changes.iter().filter(|change| like(&change.action));
            same.count()
        };
        let new_versions = count(|action| matches!(action, Action::NewVersion { .. }));
        let parts = [
            (count(|a| *a == Action::Create), "to create"),
            (count(|a| *a == Action::Update), "to update"),
            (
                new_versions,
                if new_versions == 1 {
                    "new version"
                } else {
                    "new versions"
                },
            ),
            (count(|a| *a == Action::Backfill), "to backfill"),
            (count(|a| *a == Action::Delete), "to delete"),
        ];
        let parts: Vec<_> = parts
            .iter()
            .filter(|(n, _)| *n > 0)
            .map(|(n, what)| format!("{n} {what}"))
            .collect();
        parts.join(", ")
    }
}

/// The changes, one after the other; a line that says so without a change.
impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changes.is_empty() {
            return f.write_str("no differences\n");
        }
        self.changes.iter().try_for_each(|change| change.fmt(f))
    }
}

/// A head line with the sign of the action, then a line for each reason and for each thing about data.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let object = &self.object;
        match self.action {
            Action::Create => writeln!(f, "+ create {object}")?,
            Action::Update => writeln!(f, "~ update {object}")?,
            Action::NewVersion { from, to } if from < to => {
                writeln!(f, "! new version of {object}: {from} -> {to}")?;
            }
            Action::NewVersion { from, to } => {
                writeln!(f, "! back to a version of {object}: {from} -> {to}")?;
            }
            Action::Backfill => writeln!(f, "* backfill {object}")?,
            Action::Delete => writeln!(f, "- delete {object}")?,
        }
        for reason in &self.reasons {
            writeln!(f, "    {reason}")?;
        }
        for data in &self.data {
            writeln!(f, "    data: {data}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.kind, self.name)
    }
}

/// The kind as a noun in a sentence: `feature view`.
impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Entity => "entity",
            Self::Source => "source",
            Self::FeatureView => "feature view",
            Self::FeatureService => "feature service",
        })
    }
}

impl fmt::Display for SourceFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Delta => "delta",
        })
    }
}

/// An object that has a kind and a name.
trait Object {
    const KIND: ObjectKind;
    type Name: Ord + fmt::Display;
}

macro_rules! objects {
    ($($object:ident: $name:ident, $kind:ident;)*) => {$(
        impl Object for $object {
            const KIND: ObjectKind = ObjectKind::$kind;
            type Name = $name;
        }
    )*};
}

objects! {
    Entity: EntityName, Entity;
    Source: SourceName, Source;
    View: ViewName, FeatureView;
    FeatureService: ServiceName, FeatureService;
}

/// What a change says, without whom it is about.
struct Said {
    action: Action,
    reasons: Vec<String>,
    data: Vec<String>,
}

impl Said {
    fn new(action: Action, reasons: Vec<String>) -> Self {
        Self {
            action,
            reasons,
            data: Vec::new(),
        }
    }
}

/// Adds a change for each object that is in one of the maps only, and for each about which `change` has a reason.
fn compare<T: Object>(
    before: &BTreeMap<T::Name, T>,
    after: &BTreeMap<T::Name, T>,
    changes: &mut Vec<Change>,
    change: impl Fn(Option<&T>, Option<&T>) -> Said,
) {
    let mut names: Vec<_> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (old, new) = (before.get(name), after.get(name));
        let Said {
            action,
            reasons,
            data,
        } = change(old, new);
        if reasons.is_empty() && old.is_some() && new.is_some() {
            continue;
        }
        let name = name.to_string();
        changes.push(Change {
            object: ObjectRef {
                kind: T::KIND,
                name,
            },
            action,
            reasons,
            data,
        });
    }
}

fn entity_change(before: Option<&Entity>, after: Option<&Entity>) -> Said {
    let (old, new) = match (before, after) {
        (Some(old), Some(new)) => (old, new),
        (None, Some(new)) => {
            let keys = format!("join keys: {}", keys_text(&new.join_keys));
            return Said::new(Action::Create, vec![keys]);
        }
        (_, None) => return Said::new(Action::Delete, vec![]),
    };
    let Entity {
        name: _,
        join_keys,
        about,
    } = old;
    let mut reasons = Vec::new();
    if *join_keys != new.join_keys {
        let (old, new) = (keys_text(join_keys), keys_text(&new.join_keys));
        reasons.push(format!("join keys: {old} -> {new}"));
    }
    about_reasons(about, &new.about, &mut reasons);
    Said::new(Action::Update, reasons)
}

fn source_change(before: Option<&Source>, after: Option<&Source>, project: &Project) -> Said {
    let (old, new) = match (before, after) {
        (Some(old), Some(new)) => (old, new),
        (None, Some(new)) => {
            let timed = match &new.event_timestamp {
                Some(column) => format!("event timestamp: {column}"),
                None => "static: its rows have no time".into(),
            };
            let path = format!("{} at {}", new.format, new.path);
            return Said::new(Action::Create, vec![path, timed]);
        }
        (_, None) => return source_deleted(before, project),
    };
    let Source {
        name,
        path,
        format,
        event_timestamp,
        created_timestamp,
        is_static,
        columns,
        about,
    } = old;
    let mut reasons = Vec::new();
    changed("path", path, &new.path, &mut reasons);
    changed("format", format, &new.format, &mut reasons);
    let (event, created) = (&new.event_timestamp, &new.created_timestamp);
    changed_or_none("event timestamp", event_timestamp, event, &mut reasons);
    changed_or_none(
        "created timestamp",
        created_timestamp,
        created,
        &mut reasons,
    );
    changed("static", is_static, &new.is_static, &mut reasons);
    let mut said = Said::new(Action::Update, Vec::new());
    let readers: Vec<_> = project
        .views
        .values()
        .filter_map(View::current)
        .filter(|revision| revision.sources.contains(name))
        .map(|revision| &revision.id.name)
        .collect();
    if !reasons.is_empty() && !readers.is_empty() {
        said.data.push(format!(
            "read by {}: what is materialized stays; the next run reads the source as it is declared now",
            quoted(&readers)
        ));
    }
    columns_reasons(columns, &new.columns, &mut reasons);
    about_reasons(about, &new.about, &mut reasons);
    Said { reasons, ..said }
}

/// Old versions of views outlive the sources that they read.
fn source_deleted(source: Option<&Source>, after: &Project) -> Said {
    let revisions = after.views.values().flat_map(|v| v.revisions.values());
    let readers: Vec<_> = revisions
        .filter(|revision| source.is_some_and(|source| revision.sources.contains(&source.name)))
        .map(|revision| &revision.id)
        .collect();
    let mut said = Said::new(Action::Delete, vec![]);
    if !readers.is_empty() {
        said.data.push(format!(
            "read by {}: what is materialized stays, and is no longer refreshed",
            quoted(&readers)
        ));
    }
    said
}

fn columns_reasons<T: PartialEq + fmt::Display>(
    before: &[(String, T)],
    after: &[(String, T)],
    reasons: &mut Vec<String>,
) {
    let found = reasons.len();
    let type_in = |columns: &'_ [(String, T)], name: &str| -> Option<String> {
        let column = columns.iter().find(|(column, _)| column == name);
        column.map(|(_, kind)| kind.to_string())
    };
    for (name, kind) in before {
        match type_in(after, name) {
            None => reasons.push(format!("column `{name}` is gone")),
            Some(new) if new != kind.to_string() => {
                reasons.push(format!("column `{name}`: {kind} -> {new}"));
            }
            Some(_) => {}
        }
    }
    for (name, kind) in after {
        if type_in(before, name).is_none() {
            reasons.push(format!("column `{name}` is new: {kind}"));
        }
    }
    if reasons.len() == found && before != after {
        reasons.push("its columns come in another order".into());
    }
}

fn service_change(before: Option<&FeatureService>, after: Option<&FeatureService>) -> Said {
    let (old, new) = match (before, after) {
        (Some(old), Some(new)) => (old, new),
        (None, Some(new)) => {
            let features = format!("features: {}", quoted(&new.features));
            return Said::new(Action::Create, vec![features]);
        }
        (_, None) => return Said::new(Action::Delete, vec![]),
    };
    let FeatureService {
        name: _,
        features,
        about,
    } = old;
    let mut reasons = Vec::new();
    for reference in features.iter().filter(|f| !new.features.contains(f)) {
        reasons.push(format!("`{reference}` is gone"));
    }
    for reference in new.features.iter().filter(|f| !features.contains(f)) {
        reasons.push(format!("`{reference}` is new"));
    }
    if reasons.is_empty() && *features != new.features {
        let (old, new) = (quoted(features), quoted(&new.features));
        reasons.push(format!("order of the features: {old} -> {new}"));
    }
    let mut said = Said::new(Action::Update, Vec::new());
    if !reasons.is_empty() {
        said.data
            .push("no stored row changes; what is served by it has the new columns at once".into());
    }
    about_reasons(about, &new.about, &mut reasons);
    Said { reasons, ..said }
}

fn view_change(
    before: Option<&View>,
    after: Option<&View>,
    project_before: &Project,
    project: &Project,
) -> Said {
    let (old, new) = match (before, after) {
        (Some(old), Some(new)) => (old, new),
        (None, Some(new)) => return view_created(new, project_before),
        (Some(old), None) => return view_deleted(old, project),
        (None, None) => return Said::new(Action::Update, vec![]),
    };
    let (Some(from), Some(to)) = (old.current(), new.current()) else {
        return Said::new(Action::Update, vec![]);
    };
    let difference = RevisionDiff::between(from, to);
    let mut said = if from.id == to.id {
        view_changed_in_place(&difference, to, project)
    } else {
        view_changed_version(&difference, old, new, from, to, project_before, project)
    };
    // Versions that are current in neither: they only come and go by a rollback.
    for (version, revision) in &old.revisions {
        if *version == from.id.version {
            continue;
        }
        match new.revisions.get(version) {
            None => {
                said.reasons.push(format!("`{}` is gone", revision.id));
                said.data.push(stays(std::slice::from_ref(&revision)));
            }
            Some(kept) => {
                let difference = RevisionDiff::between(revision, kept);
                let reasons = difference
                    .all()
                    .map(|reason| format!("`{}`: {reason}", revision.id));
                said.reasons.extend(reasons);
            }
        }
    }
    for (version, revision) in &new.revisions {
        if *version != to.id.version && !old.revisions.contains_key(version) {
            said.reasons
                .push(format!("`{}` is known again", revision.id));
        }
    }
    said
}

fn view_created(new: &View, before: &Project) -> Said {
    let Some(revision) = new.current() else {
        return Said::new(Action::Create, vec![]);
    };
    let features: Vec<_> = revision
        .features
        .iter()
        .map(|f| format!("{} {}", f.name, f.feature_type))
        .collect();
    let mut reasons = vec![
        format!("join keys: {}", keys_text(&revision.join_keys)),
        format!("features: {}", features.join(", ")),
    ];
    if let Some(ttl) = revision.ttl {
        reasons.push(format!("ttl: {ttl}"));
    }
    if let Some(near_cache) = revision.near_cache {
        reasons.push(format!("near_cache: {near_cache}"));
    }
    reasons.push(format!(
        "refresh: {}",
        refresh_text(&revision.refresh, &revision.refresh_reason)
    ));
    if let Some(used) = before.versions_used.get(&new.name)
        && *used < revision.id.version
    {
        reasons.push(format!(
            "version {}, as versions up to {used} have had data",
            revision.id.version
        ));
    }
    let data = vec![arrives(revision, false, before)];
    Said {
        action: Action::Create,
        reasons,
        data,
    }
}

fn view_deleted(old: &View, after: &Project) -> Said {
    let revisions: Vec<_> = old.revisions.values().collect();
    let mut data = vec![stays(&revisions)];
    if let Some(next) = after
        .versions_used
        .get(&old.name)
        .and_then(|used| used.0.checked_add(1))
    {
        data.push(format!(
            "a view that takes the name again begins with version {next}"
        ));
    }
    Said {
        action: Action::Delete,
        reasons: vec![],
        data,
    }
}

fn view_changed_in_place(difference: &RevisionDiff, to: &ViewRevision, project: &Project) -> Said {
    let mut data = Vec::new();
    let action = if difference.added.is_empty() {
        Action::Update
    } else {
        let names = quoted(&difference.added);
        data.push(
            "the next run computes the whole history again and rewrites the online rows".into(),
        );
        data.push(format!(
            "until then {names} {} null in training and NOT_FOUND online",
            if difference.added.len() == 1 {
                "is"
            } else {
                "are"
            }
        ));
        Action::Backfill
    };
    if !difference.removed.is_empty() {
        let names = quoted(&difference.removed);
        data.push(format!(
            "what is stored of {names} stays, and is no longer read"
        ));
    }
    data.extend(difference.data.iter().cloned());
    let takers = takers(project, &to.id.name);
    if !takers.is_empty() && difference.changes_columns() {
        data.push(format!(
            "{} {} the whole view, so the columns change there too",
            services_text(&takers),
            if takers.len() == 1 { "takes" } else { "take" }
        ));
    }
    Said {
        action,
        reasons: difference.all().collect(),
        data,
    }
}

fn view_changed_version(
    difference: &RevisionDiff,
    old: &View,
    new: &View,
    from: &ViewRevision,
    to: &ViewRevision,
    before: &Project,
    project: &Project,
) -> Said {
    let mut data = Vec::new();
    data.push(arrives(
        to,
        old.revisions.contains_key(&to.id.version),
        before,
    ));
    if new.revisions.contains_key(&from.id.version) {
        data.push(format!(
            "`{}` stays, with its data, for those who pin it",
            from.id
        ));
    } else {
        data.push(stays(&[from]));
    }
    let followers = followers(project, &to.id.name);
    if !followers.is_empty() {
        data.push(format!(
            "{} {} over to `{}`",
            services_text(&followers),
            if followers.len() == 1 { "goes" } else { "go" },
            to.id
        ));
    }
    let reasons: Vec<_> = difference.all_and_revived().collect();
    Said {
        action: Action::NewVersion {
            from: from.id.version,
            to: to.id.version,
        },
        // A version is a change even when nothing else is: it has its own data.
        reasons: if reasons.is_empty() {
            vec!["the definition is the same".into()]
        } else {
            reasons
        },
        data,
    }
}

/// What the data of a version is that becomes current.
fn arrives(revision: &ViewRevision, was_there: bool, before: &Project) -> String {
    let id = &revision.id;
    let has_had_data = before.versions_used.get(&id.name) >= Some(&id.version);
    match (revision.offline, revision.online) {
        _ if was_there => format!("`{id}` is current again, with the data that it has"),
        _ if has_had_data => format!("`{id}` is known again, with the data that it has"),
        (true, true) => {
            format!("`{id}` starts empty; the next run makes its Delta table and its online rows")
        }
        (true, false) => format!("`{id}` starts empty; the next run makes its Delta table"),
        (false, true) => format!("`{id}` starts empty; the next run makes its online rows"),
        (false, false) => format!("`{id}` is held by no store"),
    }
}

fn stays(revisions: &[&ViewRevision]) -> String {
    let ids: Vec<_> = revisions.iter().map(|r| &r.id).collect();
    let offline = revisions.iter().any(|r| r.offline);
    let online = revisions.iter().any(|r| r.online);
    let what = match (offline, online) {
        (true, false) => "the Delta table",
        (false, true) => "the online rows",
        (true, true) | (false, false) => "the Delta table and the online rows",
    };
    let name = ids.first().map_or("", |id| id.name.as_str());
    let ids = quoted(&ids);
    format!("kept until `teardown {name}` and no longer refreshed: {what} of {ids}")
}

/// The services that name a view without a version.
fn followers<'a>(project: &'a Project, view: &ViewName) -> Vec<&'a ServiceName> {
    let follows = |service: &&FeatureService| {
        let mut features = service.features.iter();
        features.any(|reference| reference.view == *view && reference.version.is_none())
    };
    let services = project.services.values().filter(follows);
    services.map(|service| &service.name).collect()
}

/// The services that take all features of a view's current version.
fn takers<'a>(project: &'a Project, view: &ViewName) -> Vec<&'a ServiceName> {
    use vintner_core::FeatureSelector::All;
    let current = project.views.get(view).and_then(View::current);
    let takes = |service: &&FeatureService| {
        service.features.iter().any(|reference| {
            reference.view == *view
                && reference.feature == All
                && reference
                    .version
                    .is_none_or(|pinned| current.is_some_and(|c| c.id.version == pinned))
        })
    };
    let services = project.services.values().filter(takes);
    services.map(|service| &service.name).collect()
}

fn services_text(names: &[&ServiceName]) -> String {
    let noun = if names.len() == 1 {
        "the feature service"
    } else {
        "the feature services"
    };
    format!("{noun} {}", quoted(names))
}

fn quoted<T: fmt::Display>(names: &[T]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    listed(&names)
}

fn keys_text(keys: &KeySchema) -> String {
    let keys = keys.join_keys().iter();
    let keys: Vec<_> = keys.map(|k| format!("{} {}", k.name, k.key_type)).collect();
    keys.join(", ")
}

fn refresh_text(refresh: &Refresh, reason: &str) -> String {
    let kind = match refresh {
        Refresh::RowLocal { source } => format!("row by row from `{source}`"),
        Refresh::Static { source } => format!("all of the static `{source}`"),
        Refresh::Windowed => "by windows of event time".to_owned(),
    };
    match reason {
        "" => kind,
        reason => format!("{kind} ({reason})"),
    }
}

fn about_reasons(before: &About, after: &About, reasons: &mut Vec<String>) {
    let About {
        description,
        owner,
        tags,
    } = before;
    let quote = |text: &str| format!("\"{text}\"");
    if *description != after.description {
        let (old, new) = (quote(description), quote(&after.description));
        reasons.push(format!("description: {old} -> {new}"));
    }
    if *owner != after.owner {
        let (old, new) = (quote(owner), quote(&after.owner));
        reasons.push(format!("owner: {old} -> {new}"));
    }
    for (tag, old) in tags {
        match after.tags.get(tag) {
            None => reasons.push(format!("tag {tag}: {} -> none", quote(old))),
            Some(new) if new != old => {
                reasons.push(format!("tag {tag}: {} -> {}", quote(old), quote(new)));
            }
            Some(_) => {}
        }
    }
    for (tag, new) in &after.tags {
        if !tags.contains_key(tag) {
            reasons.push(format!("tag {tag}: none -> {}", quote(new)));
        }
    }
}

/// Adds `what: old -> new` when they are not the same.
fn changed<T: PartialEq + fmt::Display>(what: &str, old: &T, new: &T, reasons: &mut Vec<String>) {
    if old != new {
        reasons.push(format!("{what}: {old} -> {new}"));
    }
}

/// As [`changed`], for what may be absent.
fn changed_or_none<T: PartialEq + fmt::Display>(
    what: &str,
    old: &Option<T>,
    new: &Option<T>,
    reasons: &mut Vec<String>,
) {
    let text = |value: &Option<T>| value.as_ref().map_or("none".into(), ToString::to_string);
    if old != new {
        reasons.push(format!("{what}: {} -> {}", text(old), text(new)));
    }
}
