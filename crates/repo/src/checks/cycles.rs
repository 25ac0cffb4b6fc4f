//! Views that are made from themselves.
//!
//! Two things that YAML can say lead from one object to another: a view's `source`, and a source's `path` when it
//! lies in the offline store's table of a view. Each object has at most one of them, so following them either ends or
//! comes back. Other cycles cannot be written: a query reads sources only, entities refer to nothing, and nothing
//! refers to a service. Which sources a query reads is the planner's to know, and so are cycles that pass through one.

use std::{collections::BTreeSet, fmt};

use super::Names;
use crate::{
    code,
    definitions::FeatureViewDef,
    deployment::Deployment,
    diagnostic::Diagnostic,
    repo::{Declared, FieldPath},
};

/// A thing that is made from another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made<'d> {
    View(&'d str),
    Source(&'d str),
}

impl fmt::Display for Made<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::View(name) => write!(f, "view `{name}`"),
            Self::Source(name) => write!(f, "source `{name}`"),
        }
    }
}

/// Reports each cycle once; gives the views that lie on one.
pub(super) fn check<'d>(
    views: &'d [Declared<FeatureViewDef>],
    names: &Names<'d>,
    deployment: Option<&Deployment>,
    found: &mut Vec<Diagnostic>,
) -> BTreeSet<&'d str> {
    let tables = deployment.map(|deployment| {
        parts(&format!(
            "{}/{}",
            deployment.offline_store, deployment.project
        ))
    });
    let mut cyclic = BTreeSet::new();
    for view in views {
        if cyclic.contains(view.value.name.as_str()) {
            continue;
        }
        let start = Made::View(view.value.name.as_str());
        let mut path = vec![start];
        let mut at = next(start, names, tables.as_deref());
        while let Some(made) = at.filter(|made| !path.contains(made)) {
            path.push(made);
            at = next(made, names, tables.as_deref());
        }
        if at != Some(start) {
            continue; // it ends, or comes back to something that is reported at its own view
        }
        cyclic.extend(path.iter().filter_map(|made| match made {
            Made::View(name) => Some(*name),
            Made::Source(_) => None,
        }));
        found.push(cycle(view, &path, names));
    }
    cyclic
}

fn cycle(view: &Declared<FeatureViewDef>, path: &[Made<'_>], names: &Names<'_>) -> Diagnostic {
    let steps: Vec<String> = path
        .iter()
        .chain(path.first())
        .map(Made::to_string)
        .collect();
    let mut cycle = Diagnostic::error(
        code::CYCLE,
        view.fields.place(&FieldPath::Field("source")),
        format!(
            "the feature view `{}` is made from itself: {}",
            view.value.name,
            steps.join(" from ")
        ),
    )
    .label("leads back to this view")
    .help("name a source with data of its own; a view reads sources, not views");
    for made in &path[1..] {
        let place = match made {
            Made::View(name) => names
                .views
                .get(name)
                .map(|view| view.fields.place(&FieldPath::Field("source"))),
            Made::Source(name) => names
                .sources
                .get(name)
                .map(|source| source.fields.place(&FieldPath::Field("path"))),
        };
        if let Some(place) = place {
            cycle = cycle.also(place, "by way of this");
        }
    }
    cycle
}

/// What a thing is made from, when the YAML says so.
fn next<'d>(made: Made<'d>, names: &Names<'d>, tables: Option<&[String]>) -> Option<Made<'d>> {
    match made {
        Made::View(name) => {
            let source = names.views.get(name)?.value.source()?.as_str();
            let found = names.sources.get_key_value(source);
            let view = || names.views.get_key_value(source);
            found
                .map(|(name, _)| Made::Source(name))
                .or_else(|| view().map(|(name, _)| Made::View(name)))
        }
        Made::Source(name) => {
            let path = parts(&names.sources.get(name)?.value.path);
            let view = path.strip_prefix(tables?)?.first()?;
            let (view, _) = names.views.get_key_value(view.as_str())?;
            Some(Made::View(view))
        }
    }
}

/// The parts of a path or a URL without `.`, `..` and doubled slashes.
fn parts(path: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for part in path.split(['/', '\\']) {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| last != "..") => {
                parts.pop();
            }
            _ => parts.push(part.to_owned()),
        }
    }
    parts
}
