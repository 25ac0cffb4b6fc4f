//! What objects say of each other: duplicate names, names that nothing declares, join keys that clash, cycles.
//!
//! Not here: anything about SQL. Which tables and columns a query names is the planner's to know.

mod cycles;

use std::collections::{BTreeMap, BTreeSet};

use vintner_core::{ColumnName, EntityName, FeatureRef, FeatureSelector, nearest::nearest};

use crate::{
    code,
    definitions::{EntityDef, FeatureServiceDef, FeatureViewDef, Kind, SourceDef},
    deployment::Deployment,
    diagnostic::Diagnostic,
    repo::{Declared, FieldPath},
};

/// All objects that could be read, be they right or wrong.
#[derive(Debug, Default)]
pub(crate) struct Declarations {
    pub(crate) entities: Vec<Declared<EntityDef>>,
    pub(crate) sources: Vec<Declared<SourceDef>>,
    pub(crate) views: Vec<Declared<FeatureViewDef>>,
    pub(crate) services: Vec<Declared<FeatureServiceDef>>,
    /// The kinds of which there may be objects that could not be read. A name of such a kind is not called unknown:
    /// what is broken may well declare it.
    pub(crate) unreadable: BTreeSet<Kind>,
}

impl Declarations {
    /// How many objects there are.
    pub(crate) fn count(&self) -> usize {
        self.entities.len() + self.sources.len() + self.views.len() + self.services.len()
    }
}

/// Objects by name; of those with one name, the first.
struct Names<'d> {
    entities: BTreeMap<&'d str, &'d Declared<EntityDef>>,
    sources: BTreeMap<&'d str, &'d Declared<SourceDef>>,
    views: BTreeMap<&'d str, &'d Declared<FeatureViewDef>>,
    unreadable: &'d BTreeSet<Kind>,
}

/// Checks all objects against each other.
pub(crate) fn check(
    declarations: &Declarations,
    deployment: Option<&Deployment>,
    found: &mut Vec<Diagnostic>,
) {
    let names = Names {
        entities: by_name(
            &declarations.entities,
            Kind::Entity,
            |e| e.name.as_str(),
            found,
        ),
        sources: by_name(
            &declarations.sources,
            Kind::Source,
            |s| s.name.as_str(),
            found,
        ),
        views: by_name(
            &declarations.views,
            Kind::FeatureView,
            |v| v.name.as_str(),
            found,
        ),
        unreadable: &declarations.unreadable,
    };
    by_name(
        &declarations.services,
        Kind::FeatureService,
        |s| s.name.as_str(),
        found,
    );
    let cyclic = cycles::check(&declarations.views, &names, deployment, found);
    for view in &declarations.views {
        entities(view, &names, found);
        if !cyclic.contains(view.value.name.as_str()) {
            source(view, &names, found);
        }
        stores(view, found);
    }
    for service in &declarations.services {
        features(service, &names, found);
    }
}

fn by_name<'d, T>(
    objects: &'d [Declared<T>],
    kind: Kind,
    name: fn(&T) -> &str,
    found: &mut Vec<Diagnostic>,
) -> BTreeMap<&'d str, &'d Declared<T>> {
    let mut names: BTreeMap<&str, &Declared<T>> = BTreeMap::new();
    for object in objects {
        let name = name(&object.value);
        let Some(first) = names.get(name) else {
            names.insert(name, object);
            continue;
        };
        found.push(
            Diagnostic::error(
                code::DUPLICATE_NAME,
                object.place.clone(),
                format!("the {kind} `{name}` is declared twice"),
            )
            .label("again")
            .also(first.place.clone(), "first declared here")
            .help("rename or remove one of the two"),
        );
    }
    names
}

/// "did you mean", or how to declare it.
fn suggest<'n>(text: &str, kind: Kind, names: impl Iterator<Item = &'n str>) -> String {
    match nearest(text, names) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("declare it: `kind: {}` and `name: {text}`", kind.name()),
    }
}

/// The entities of a view: known, each once, and with join keys that do not clash.
fn entities(view: &Declared<FeatureViewDef>, names: &Names<'_>, found: &mut Vec<Diagnostic>) {
    let mut seen: Vec<&EntityName> = Vec::new();
    let mut join_keys: BTreeMap<&ColumnName, &EntityName> = BTreeMap::new();
    for name in &view.value.entities {
        if seen.contains(&name) {
            continue; // reported where it was first seen
        }
        seen.push(name);
        let places = view.fields.elements("entities", name.as_str());
        let place = places.first().cloned();
        let place = place.unwrap_or_else(|| view.fields.place(&FieldPath::Field("entities")));
        for again in places.into_iter().skip(1) {
            found.push(
                Diagnostic::error(
                    code::DUPLICATE_ELEMENT,
                    again,
                    format!("the entity `{name}` is there twice"),
                )
                .label("again")
                .also(place.clone(), "first")
                .help("remove one of the two"),
            );
        }
        let Some(entity) = names.entities.get(name.as_str()) else {
            if !names.unreadable.contains(&Kind::Entity) {
                let known = names.entities.keys().copied();
                found.push(
                    Diagnostic::error(
                        code::UNKNOWN_ENTITY,
                        place,
                        format!("no entity is named `{name}`"),
                    )
                    .label("unknown entity")
                    .help(suggest(name.as_str(), Kind::Entity, known)),
                );
            }
            continue;
        };
        for key in &entity.value.join_keys {
            let Some(other) = join_keys.insert(&key.name, name) else {
                continue;
            };
            if other == name {
                continue; // a duplicate key, reported where it stands
            }
            found.push(
                Diagnostic::error(
                    code::JOIN_KEY_CONFLICT,
                    place.clone(),
                    format!(
                        "the entities `{other}` and `{name}` both have the join key `{}`",
                        key.name
                    ),
                )
                .label("clashes")
                .also(
                    entity.fields.place(&FieldPath::Entry {
                        field: "join_keys",
                        name: key.name.to_string(),
                    }),
                    "this join key",
                )
                .help("rename one of the join keys; a view has one column for each"),
            );
        }
    }
}

/// The source of a view: known, and with a time if the view has a ttl.
fn source(view: &Declared<FeatureViewDef>, names: &Names<'_>, found: &mut Vec<Diagnostic>) {
    let FeatureViewDef { name, ttl, .. } = &view.value;
    if let Some(source) = names.sources.get(name.as_str()) {
        found.push(
            Diagnostic::warning(
                code::VIEW_NAMED_LIKE_SOURCE,
                view.place.clone(),
                format!("the feature view `{name}` has the name of a source"),
            )
            .label("the view")
            .also(source.place.clone(), "the source")
            .help("in queries the name is always the source; rename one of the two to make that plain"),
        );
    }
    let Some(wanted) = view.value.source() else {
        return;
    };
    let place = || view.fields.place(&FieldPath::Field("source"));
    match names.sources.get(wanted.as_str()) {
        Some(source) if source.value.is_static && ttl.is_some() => found.push(
            Diagnostic::error(
                code::TTL_ON_STATIC,
                view.fields.place(&FieldPath::Field("ttl")),
                "a view over a static source cannot have a ttl",
            )
            .label("counts from no time")
            .also(place(), "its rows have no time")
            .help("remove `ttl`; what has always been true does not grow old"),
        ),
        Some(_) => {}
        None if names.unreadable.contains(&Kind::Source) => {}
        None => {
            let known = names.sources.keys().copied();
            let help = if names.views.contains_key(wanted.as_str()) {
                format!("`{wanted}` is a feature view; name the source that it is made from")
            } else {
                suggest(wanted.as_str(), Kind::Source, known)
            };
            found.push(
                Diagnostic::error(
                    code::UNKNOWN_SOURCE,
                    place(),
                    format!("no source is named `{wanted}`"),
                )
                .label("unknown source")
                .help(help),
            );
        }
    }
}

/// A view that no store holds can be read by no one.
fn stores(view: &Declared<FeatureViewDef>, found: &mut Vec<Diagnostic>) {
    if !view.value.offline && !view.value.online {
        found.push(
            Diagnostic::warning(
                code::NO_STORE,
                view.fields.place(&FieldPath::Field("online")),
                format!("no store holds the feature view `{}`", view.value.name),
            )
            .label("not online")
            .also(
                view.fields.place(&FieldPath::Field("offline")),
                "not offline",
            )
            .help("remove one of the two lines, or the view"),
        );
    }
}

/// The features of a service: of known views, and no feature twice. Whether a view has a feature is the planner's to
/// know, since a view has all columns of its query.
fn features(service: &Declared<FeatureServiceDef>, names: &Names<'_>, found: &mut Vec<Diagnostic>) {
    let mut earlier: Vec<&FeatureRef> = Vec::new();
    let mut told: BTreeSet<String> = BTreeSet::new();
    for reference in &service.value.features {
        let text = reference.to_string();
        let mut places = service.fields.elements("features", &text).into_iter();
        let field = || service.fields.place(&FieldPath::Field("features"));
        let place = places.next().unwrap_or_else(field);
        if let Some(first) = earlier.iter().find(|first| overlap(first, reference)) {
            let first_text = first.to_string();
            let again = if first_text == text {
                places.next()
            } else {
                None
            };
            let first_place = service
                .fields
                .elements("features", &first_text)
                .into_iter()
                .next();
            if told.insert(text.clone()) {
                let message = if first_text == text {
                    format!("`{text}` is there twice")
                } else {
                    format!("`{text}` is there twice: `{first_text}` gives it too")
                };
                found.push(
                    Diagnostic::error(code::DUPLICATE_ELEMENT, again.unwrap_or(place), message)
                        .label("again")
                        .also(first_place.unwrap_or_else(field), "first")
                        .help("remove one of the two"),
                );
            }
            continue;
        }
        earlier.push(reference);
        let is_known = names.views.contains_key(reference.view.as_str());
        if is_known || names.unreadable.contains(&Kind::FeatureView) {
            continue;
        }
        let view = reference.view.as_str();
        let help = if names.sources.contains_key(view) {
            format!("`{view}` is a source; declare a feature view over it")
        } else {
            suggest(view, Kind::FeatureView, names.views.keys().copied())
        };
        found.push(
            Diagnostic::error(
                code::UNKNOWN_VIEW,
                place,
                format!("no feature view is named `{view}`"),
            )
            .label("unknown view")
            .help(help),
        );
    }
}

/// Whether two references give one feature of one view version.
fn overlap(a: &FeatureRef, b: &FeatureRef) -> bool {
    let all = |reference: &FeatureRef| reference.feature == FeatureSelector::All;
    a.view == b.view && a.version == b.version && (a.feature == b.feature || all(a) || all(b))
}
