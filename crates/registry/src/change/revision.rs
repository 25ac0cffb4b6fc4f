//! What differs between two definitions of a feature view, and whether one may take the place of the other.

use std::collections::BTreeMap;

use vintner_core::{FeatureField, FeatureName};

use super::{about_reasons, changed, changed_or_none, keys_text, quoted, refresh_text};
use crate::model::{Layout, Refresh, SourceColumn, ViewInput, ViewRevision};

/// What differs between two revisions of a view, in words.
pub(crate) struct RevisionDiff {
    /// What makes stored rows wrong, so that the second needs a version of its own.
    pub(crate) breaks: Vec<String>,
    /// The features that only the first has.
    pub(crate) removed: Vec<FeatureName>,
    /// The features that only the second has.
    pub(crate) added: Vec<FeatureName>,
    /// What leaves stored rows as they are.
    pub(crate) updates: Vec<String>,
    /// What `updates` mean for data.
    pub(crate) data: Vec<String>,
    /// Features that are added and that stored rows already have values of: the view had them, was rolled back, and
    /// may now mean something else by them.
    revived: Vec<String>,
    reordered: bool,
    new_features: Vec<String>,
}

impl RevisionDiff {
    /// Compares two revisions, field by field. Versions and layouts are the registry's own and do not count.
    pub(crate) fn between(old: &ViewRevision, new: &ViewRevision) -> Self {
        let mut diff = Self {
            breaks: Vec::new(),
            removed: Vec::new(),
            added: Vec::new(),
            updates: Vec::new(),
            data: Vec::new(),
            revived: Vec::new(),
            reordered: false,
            new_features: Vec::new(),
        };
        diff.compare_rows(old, new);
        diff.compare_features(old, new);
        diff.compare_rest(old, new);
        diff
    }

    /// Everything that differs, the gravest first.
    pub(crate) fn all(&self) -> impl Iterator<Item = String> {
        let all = [&self.breaks, &self.new_features, &self.updates];
        all.into_iter().flatten().cloned()
    }

    /// As [`all`](Self::all), for a change of version: also why the version could not be kept.
    pub(crate) fn all_and_revived(&self) -> impl Iterator<Item = String> {
        self.breaks
            .iter()
            .chain(&self.revived)
            .chain(&self.new_features)
            .chain(&self.updates)
            .cloned()
    }

    /// Whether rows that are stored for the first would be wrong for the second.
    pub(crate) fn needs_new_version(&self) -> bool {
        !self.breaks.is_empty() || !self.revived.is_empty()
    }

    /// Whether those who take the whole view get other columns.
    pub(crate) fn changes_columns(&self) -> bool {
        self.reordered || !self.added.is_empty() || !self.removed.is_empty()
    }

    /// What decides which rows there are, and when they count.
    fn compare_rows(&mut self, old: &ViewRevision, new: &ViewRevision) {
        let breaks = &mut self.breaks;
        if old.join_keys != new.join_keys {
            let (old, new) = (keys_text(&old.join_keys), keys_text(&new.join_keys));
            breaks.push(format!("join keys: {old} -> {new}"));
        }
        if old.relation != new.relation {
            breaks.push(differs(
                "how its rows are made",
                &old.relation,
                &new.relation,
            ));
        }
        let (event, created) = (&old.event_timestamp, &old.created_timestamp);
        changed_or_none("event timestamp", event, &new.event_timestamp, breaks);
        changed_or_none("created timestamp", created, &new.created_timestamp, breaks);
        let timeless = |revision: &ViewRevision| matches!(revision.refresh, Refresh::Static { .. });
        if old.refresh != new.refresh {
            let change = format!(
                "refresh: {} -> {}",
                refresh_text(&old.refresh, ""),
                refresh_text(&new.refresh, "")
            );
            // Rows of a static view have no time of their own, so those that are stored have the wrong one.
            if timeless(old) || timeless(new) {
                breaks.push(change);
            } else {
                self.updates.push(change);
                self.data
                    .push("the next run computes the whole history again".into());
            }
        }
    }

    fn compare_features(&mut self, old: &ViewRevision, new: &ViewRevision) {
        for field in &old.features {
            let name = &field.name;
            let Some(after) = new.feature(name) else {
                self.removed.push(name.clone());
                self.breaks.push(format!("feature `{name}` is gone"));
                continue;
            };
            if field.feature_type != after.feature_type {
                let (old, new) = (field.feature_type, after.feature_type);
                self.breaks
                    .push(format!("type of feature `{name}`: {old} -> {new}"));
            }
            let definition = |revision: &ViewRevision| {
                let text = revision.definitions.get(name);
                text.cloned().unwrap_or_default()
            };
            let (before, now) = (definition(old), definition(new));
            if before != now {
                let what = format!("definition of feature `{name}`");
                self.breaks.push(differs(&what, &before, &now));
            }
            if field.default != after.default {
                let what = format!("default of feature `{name}`");
                changed_or_none(&what, &field.default, &after.default, &mut self.updates);
                self.data.push(format!(
                    "no stored row changes; readers get the new default of `{name}` at once"
                ));
            }
            if field.description != after.description {
                self.updates.push(format!(
                    "description of feature `{name}`: \"{}\" -> \"{}\"",
                    field.description, after.description
                ));
            }
        }
        for field in &new.features {
            if old.feature(&field.name).is_none() {
                self.added.push(field.name.clone());
                let had =
                    |layout: &Layout| layout.fields.iter().any(|(name, _)| *name == field.name);
                if old.layouts.iter().any(had) {
                    self.revived.push(format!(
                        "feature `{}` was in `{}` before a rollback, and its table may still have other values of it",
                        field.name, old.id
                    ));
                }
                self.new_features.push(format!(
                    "feature `{}` is new: {}",
                    field.name, field.feature_type
                ));
            }
        }
        let order = |one: &ViewRevision, other: &ViewRevision| -> Vec<String> {
            let names = one.features.iter().map(|f| &f.name);
            let common = names.filter(|name| other.feature(name).is_some());
            common.map(ToString::to_string).collect()
        };
        let (before, after) = (order(old, new), order(new, old));
        if before != after {
            self.reordered = true;
            self.updates.push(format!(
                "order of the features: {} -> {}",
                quoted(&before),
                quoted(&after)
            ));
        }
    }

    fn compare_rest(&mut self, old: &ViewRevision, new: &ViewRevision) {
        // Taken apart so that a new field does not compile until it is compared.
        let ViewRevision {
            id: _,
            layouts: _,
            join_keys: _,
            relation: _,
            event_timestamp: _,
            created_timestamp: _,
            features: _,
            definitions: _,
            entities,
            ttl,
            input,
            sources,
            refresh,
            refresh_reason,
            lookback,
            lineage,
            offline,
            online,
            near_cache,
            about,
        } = old;
        let updates = &mut self.updates;
        if *ttl != new.ttl {
            changed_or_none("ttl", ttl, &new.ttl, updates);
            self.data
                .push("no stored row changes; readers use the new ttl at once".into());
            if new.ttl.is_none_or(|new| ttl.is_some_and(|old| old < new)) && *online && new.online {
                self.data.push(
                    "online rows that the old ttl has let expire come back when they are materialized again".into(),
                );
            }
        }
        if *entities != new.entities {
            let (old, new) = (quoted(entities), quoted(&new.entities));
            updates.push(format!("entities: {old} -> {new}"));
        }
        if *input != new.input {
            updates.push(match (input, &new.input) {
                (ViewInput::Query(_), ViewInput::Query(_)) => {
                    "its query is written in another way".into()
                }
                (old, new) => format!("input: {} -> {}", input_text(old), input_text(new)),
            });
        }
        if *sources != new.sources {
            let (old, new) = (quoted(sources), quoted(&new.sources));
            updates.push(format!("sources: {old} -> {new}"));
        }
        changed_or_none("lookback", lookback, &new.lookback, updates);
        changed_or_none("near_cache", near_cache, &new.near_cache, updates);
        if *refresh == new.refresh && *refresh_reason != new.refresh_reason {
            let (old, new) = (refresh_reason, &new.refresh_reason);
            updates.push(format!("reason of its refresh: {old} -> {new}"));
        }
        for FeatureField { name, .. } in &old.features {
            if new.feature(name).is_some() && lineage.get(name) != new.lineage.get(name) {
                updates.push(format!(
                    "lineage of feature `{name}`: {} -> {}",
                    lineage_text(lineage, name),
                    lineage_text(&new.lineage, name)
                ));
            }
        }
        for (what, was, is, begins, ends) in [
            (
                "offline",
                *offline,
                new.offline,
                "the next run makes the Delta table",
                "the Delta table stays until `teardown`, and is no longer written",
            ),
            (
                "online",
                *online,
                new.online,
                "the next run loads the online rows",
                "the online rows stay until `teardown`, and are no longer written",
            ),
        ] {
            if was != is {
                changed(what, &was, &is, updates);
                self.data.push(if is { begins } else { ends }.into());
            }
        }
        about_reasons(about, &new.about, updates);
    }
}

/// `what: old -> new` when both are short, else only that it differs: whole queries help no one in a list.
fn differs(what: &str, old: &str, new: &str) -> String {
    const SHORT: usize = 80;
    let short = |text: &str| !text.is_empty() && text.len() <= SHORT && !text.contains('\n');
    if short(old) && short(new) {
        format!("{what}: {old} -> {new}")
    } else {
        format!("{what} is different")
    }
}

fn input_text(input: &ViewInput) -> String {
    match input {
        ViewInput::Source(source) => format!("all columns of `{source}`"),
        ViewInput::Query(_) => "a query".into(),
    }
}

fn lineage_text(
    lineage: &BTreeMap<FeatureName, Vec<SourceColumn>>,
    feature: &FeatureName,
) -> String {
    match lineage.get(feature).map(Vec::as_slice) {
        None | Some([]) => "none".into(),
        Some(columns) => columns
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    }
}
