//! Which columns a request asks for: features, or a feature service, resolved against one project.
//!
//! Training and serving both start here, so both give the same columns in the same order under the same names. A
//! [`Selection`] holds for the registry version it was made from; make it once per version and keep it.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
    sync::Arc,
};

use vintner_core::{
    FeatureField, FeatureName, FeatureRef, FeatureSelector, JoinKey, KeySchema, KeyType,
    ServiceName, ViewId, ViewName, ViewVersion, nearest::nearest,
};

use crate::model::{Project, View, ViewRevision};

/// What a caller asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FeatureRequest {
    /// The features of a feature service, in its order.
    Service(ServiceName),
    /// These features, in this order.
    Features(Vec<FeatureRef>),
}

/// How output columns are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NameStyle {
    /// `feature`; `view__feature` for just those features whose name another selected view gives too.
    #[default]
    Short,
    /// `view__feature` for all.
    Full,
}

/// The columns that a request asks for. No column name is there twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The columns, in the order asked for.
    pub columns: Vec<SelectedColumn>,
    /// The view versions that they come from, each once, in the order of first use.
    pub views: Vec<Arc<ViewRevision>>,
}

/// One output column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectedColumn {
    /// Which of the selection's views has it: an index into [`Selection::views`].
    pub view: usize,
    /// The feature.
    pub feature: FeatureField,
    /// The name of the output column.
    pub name: String,
}

/// Everything that is wrong with a request, at least one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectionError {
    /// What is wrong, in the order of the request.
    pub problems: Vec<SelectionProblem>,
}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectionProblem {
    /// Nothing is asked for.
    #[error("no feature is asked for; name at least one, as `view:feature` or `view`")]
    Empty,
    /// No feature service has that name.
    #[error("there is no feature service `{service}`{suggestion}")]
    UnknownService {
        /// The name.
        service: ServiceName,
        /// What may have been meant.
        suggestion: Suggestion,
    },
    /// No feature view has that name.
    #[error("there is no feature view `{view}`{suggestion}")]
    UnknownView {
        /// The name.
        view: ViewName,
        /// What may have been meant.
        suggestion: Suggestion,
    },
    /// The feature view has no such version.
    #[error("the feature view `{view}` has no version {version}; it has {}", listed(.versions))]
    UnknownVersion {
        /// The view.
        view: ViewName,
        /// The version that was asked for.
        version: ViewVersion,
        /// The versions that there are.
        versions: Vec<ViewVersion>,
    },
    /// The view version has no such feature.
    #[error("the feature view `{view}` has no feature `{feature}`{suggestion}")]
    UnknownFeature {
        /// The view and the version that was looked at.
        view: ViewId,
        /// The feature.
        feature: FeatureName,
        /// What may have been meant.
        suggestion: Suggestion,
    },
    /// One feature of one view version twice.
    #[error("the feature `{view}:{feature}` is asked for twice, by `{first}` and by `{second}`")]
    Duplicate {
        /// The view version.
        view: ViewId,
        /// The feature.
        feature: FeatureName,
        /// The reference that asks first.
        first: FeatureRef,
        /// The reference that asks again.
        second: FeatureRef,
    },
    /// Two features that would get one column name.
    #[error(
        "`{first}` and `{second}` would both be the column `{name}`; ask for them in two requests"
    )]
    SameColumn {
        /// One feature, with its view's version.
        first: FeatureRef,
        /// The other.
        second: FeatureRef,
        /// The column name.
        name: String,
    },
    /// One join key with two types.
    #[error(
        "the join key `{}` is {} in the feature view `{first_view}` and {second} in `{second_view}`, \
         so that no entity row fits both; ask for them in two requests",
        .first.name, .first.key_type
    )]
    JoinKeyTypes {
        /// The join key as one view has it.
        first: JoinKey,
        /// That view.
        first_view: ViewId,
        /// Its type in another view.
        second: KeyType,
        /// The other view.
        second_view: ViewId,
    },
}

/// What may have been meant, as the end of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suggestion {
    /// A name that is near.
    DidYouMean(String),
    /// What has the name that was asked for.
    Elsewhere(Vec<FeatureRef>),
    /// What there is.
    ThereAre(Vec<String>),
    /// There is nothing of the kind.
    ThereIsNone,
}

/// Resolves a request against a project.
///
/// Out: every feature asked for, in the order asked for; a reference to a whole view gives its features in the view's
/// order. A reference without a version means the view's current one.
///
/// # Errors
/// [`SelectionError`] with every unknown name, every feature that is asked for twice, column names that collide, and
/// join keys that have two types.
pub fn select(
    project: &Project,
    request: &FeatureRequest,
    style: NameStyle,
) -> Result<Selection, SelectionError> {
    let references = match request {
        FeatureRequest::Features(references) => references,
        FeatureRequest::Service(name) => match project.services.get(name) {
            Some(service) => &service.features,
            None => {
                return Err(SelectionError::of(SelectionProblem::UnknownService {
                    service: name.clone(),
                    suggestion: Suggestion::among(name.as_str(), project.services.keys()),
                }));
            }
        },
    };
    let picked = pick(project, references)?;
    let mut selection = Selection {
        columns: Vec::with_capacity(picked.len()),
        views: Vec::new(),
    };
    let mut indices = BTreeMap::new();
    let given_by = views_by_feature(&picked);
    for Pick {
        revision, field, ..
    } in &picked
    {
        let view = *indices.entry(&revision.id).or_insert_with(|| {
            selection.views.push(Arc::new((*revision).clone()));
            selection.views.len() - 1
        });
        let shared = given_by.get(&field.name).is_some_and(|&views| views > 1);
        let name = match style {
            NameStyle::Short if !shared => field.name.to_string(),
            NameStyle::Short | NameStyle::Full => {
                format!("{}__{}", revision.id.name, field.name)
            }
        };
        selection.columns.push(SelectedColumn {
            view,
            feature: (*field).clone(),
            name,
        });
    }
    selection.check_names()?;
    selection.join_keys()?;
    Ok(selection)
}

impl Selection {
    /// The join keys of all the views, in the order of their names: the columns that entity rows must have.
    ///
    /// # Errors
    /// [`SelectionError`] when one name has two types, or when there is no view. Never for what [`select`] gave.
    pub fn join_keys(&self) -> Result<KeySchema, SelectionError> {
        let mut keys: BTreeMap<_, (&JoinKey, &ViewId)> = BTreeMap::new();
        let mut problems = Vec::new();
        for revision in &self.views {
            for key in revision.keys() {
                let (first, first_view) = *keys.entry(&key.name).or_insert((key, &revision.id));
                if first.key_type != key.key_type {
                    problems.push(SelectionProblem::JoinKeyTypes {
                        first: first.clone(),
                        first_view: first_view.clone(),
                        second: key.key_type,
                        second_view: revision.id.clone(),
                    });
                }
            }
        }
        SelectionError::unless_empty(problems)?;
        KeySchema::new(keys.values().map(|(key, _)| (*key).clone()).collect())
            .map_err(|_| SelectionError::of(SelectionProblem::Empty))
    }

    /// The view version that a column comes from.
    pub fn view_of(&self, column: &SelectedColumn) -> Option<&Arc<ViewRevision>> {
        self.views.get(column.view)
    }

    /// Full names are unique by themselves, but for two versions of one view; a short name may be another's full name.
    fn check_names(&self) -> Result<(), SelectionError> {
        let mut seen: BTreeMap<&str, FeatureRef> = BTreeMap::new();
        let mut problems = Vec::new();
        for column in &self.columns {
            let Some(revision) = self.view_of(column) else {
                continue;
            };
            let reference = FeatureRef {
                view: revision.id.name.clone(),
                version: Some(revision.id.version),
                feature: FeatureSelector::One(column.feature.name.clone()),
            };
            match seen.entry(&column.name) {
                Entry::Vacant(vacant) => {
                    vacant.insert(reference);
                }
                Entry::Occupied(first) => problems.push(SelectionProblem::SameColumn {
                    first: first.get().clone(),
                    second: reference,
                    name: column.name.clone(),
                }),
            }
        }
        SelectionError::unless_empty(problems)
    }
}

/// One feature that is asked for, and by what.
pub(crate) struct Pick<'a> {
    pub(crate) revision: &'a ViewRevision,
    pub(crate) field: &'a FeatureField,
    reference: &'a FeatureRef,
}

/// The features that references mean, each once.
pub(crate) fn pick<'a>(
    project: &'a Project,
    references: &'a [FeatureRef],
) -> Result<Vec<Pick<'a>>, SelectionError> {
    let mut problems = Vec::new();
    let mut picked: Vec<Pick<'a>> = Vec::new();
    let mut seen: BTreeMap<(&ViewId, &FeatureName), usize> = BTreeMap::new();
    for reference in references {
        let revision = match revision(project, reference) {
            Ok(revision) => revision,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let fields = match &reference.feature {
            FeatureSelector::All => revision.features.as_slice(),
            FeatureSelector::One(name) => match revision.feature(name) {
                Some(field) => std::slice::from_ref(field),
                None => {
                    problems.push(unknown_feature(project, revision, name));
                    continue;
                }
            },
        };
        for field in fields {
            match seen.entry((&revision.id, &field.name)) {
                Entry::Vacant(vacant) => {
                    vacant.insert(picked.len());
                    picked.push(Pick {
                        revision,
                        field,
                        reference,
                    });
                }
                Entry::Occupied(first) => problems.push(SelectionProblem::Duplicate {
                    view: revision.id.clone(),
                    feature: field.name.clone(),
                    first: picked[*first.get()].reference.clone(),
                    second: reference.clone(),
                }),
            }
        }
    }
    if picked.is_empty() && problems.is_empty() {
        problems.push(SelectionProblem::Empty);
    }
    SelectionError::unless_empty(problems)?;
    Ok(picked)
}

/// The view version that a reference means.
fn revision<'a>(
    project: &'a Project,
    reference: &FeatureRef,
) -> Result<&'a ViewRevision, SelectionProblem> {
    let unknown_view = || SelectionProblem::UnknownView {
        view: reference.view.clone(),
        suggestion: Suggestion::among(reference.view.as_str(), project.views.keys()),
    };
    let view = project
        .views
        .get(&reference.view)
        .ok_or_else(unknown_view)?;
    match reference.version {
        None => view.current().ok_or_else(unknown_view),
        Some(version) => {
            view.revisions
                .get(&version)
                .ok_or_else(|| SelectionProblem::UnknownVersion {
                    view: view.name.clone(),
                    version,
                    versions: view.revisions.keys().copied().collect(),
                })
        }
    }
}

fn unknown_feature(
    project: &Project,
    revision: &ViewRevision,
    name: &FeatureName,
) -> SelectionProblem {
    let others = project.views.get(&revision.id.name).into_iter();
    let elsewhere: Vec<_> = others
        .flat_map(|view: &View| view.revisions.values())
        .filter(|other| other.feature(name).is_some())
        .map(|other| FeatureRef {
            view: other.id.name.clone(),
            version: Some(other.id.version),
            feature: FeatureSelector::One(name.clone()),
        })
        .collect();
    SelectionProblem::UnknownFeature {
        view: revision.id.clone(),
        feature: name.clone(),
        suggestion: if elsewhere.is_empty() {
            Suggestion::among(name.as_str(), revision.features.iter().map(|f| &f.name))
        } else {
            Suggestion::Elsewhere(elsewhere)
        },
    }
}

/// How many of the picked views give a feature of each name; two versions of a view count twice.
fn views_by_feature<'a>(picked: &[Pick<'a>]) -> BTreeMap<&'a FeatureName, usize> {
    let mut counts = BTreeMap::new();
    for pick in picked {
        *counts.entry(&pick.field.name).or_insert(0) += 1;
    }
    counts
}

impl SelectionError {
    fn of(problem: SelectionProblem) -> Self {
        Self {
            problems: vec![problem],
        }
    }

    fn unless_empty(problems: Vec<SelectionProblem>) -> Result<(), Self> {
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Self { problems })
        }
    }
}

/// One line for each problem.
impl fmt::Display for SelectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for SelectionError {}

impl Suggestion {
    /// How many names are listed before it is no help any more.
    const LISTED: usize = 8;

    /// The nearest of the names that there are, or the first few of them.
    pub fn among<T: AsRef<str>>(text: &str, names: impl IntoIterator<Item = T>) -> Self {
        let names: Vec<T> = names.into_iter().collect();
        if names.is_empty() {
            return Self::ThereIsNone;
        }
        match nearest(text, names.iter().map(AsRef::as_ref)) {
            Some(name) => Self::DidYouMean(name.to_owned()),
            None => Self::ThereAre(names.iter().map(|name| name.as_ref().to_owned()).collect()),
        }
    }
}

impl fmt::Display for Suggestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DidYouMean(name) => write!(f, "; did you mean `{name}`?"),
            Self::Elsewhere(references) => {
                let quoted: Vec<_> = references.iter().map(|r| format!("`{r}`")).collect();
                write!(f, "; another version has it: {}", listed(&quoted))
            }
            Self::ThereAre(names) => {
                let mut quoted: Vec<_> = names
                    .iter()
                    .take(Self::LISTED)
                    .map(|name| format!("`{name}`"))
                    .collect();
                if names.len() > Self::LISTED {
                    quoted.push(format!("{} more", names.len() - Self::LISTED));
                }
                let verb = if names.len() == 1 { "is" } else { "are" };
                write!(f, "; there {verb} {}", listed(&quoted))
            }
            Self::ThereIsNone => f.write_str("; there is none"),
        }
    }
}

/// `1`, `1 and 2`, `1, 2 and 3`.
pub(crate) fn listed<T: fmt::Display>(items: &[T]) -> String {
    match items {
        [] => String::new(),
        [one] => one.to_string(),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(ToString::to_string).collect();
            format!("{} and {last}", first.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{project_of, revision};

    fn project() -> Project {
        let mut project = project_of(
            [
                revision(
                    "weather@1",
                    "origin: string",
                    "temp: float64, gust: float64",
                ),
                revision("weather@2", "origin: string", "temp: int32, rain: bool"),
                revision("delays", "carrier: string", "mean: float64, temp: float64"),
                revision("routes", "origin: string, dest: string", "mean: float64"),
                revision("bays", "origin: int32", "free: int32"),
                revision("odd", "origin: string", "weather__temp: float64"),
            ],
            [
                ("delay_model", "weather, delays:mean"),
                ("pinned", "weather@1:gust, weather@2:rain"),
            ],
        );
        project.services.insert(
            "empty".parse().unwrap(),
            crate::model::FeatureService {
                name: "empty".parse().unwrap(),
                features: vec![],
                about: Default::default(),
            },
        );
        project
    }

    fn features(text: &str) -> FeatureRequest {
        FeatureRequest::Features(
            text.split_whitespace()
                .map(|reference| reference.parse().unwrap())
                .collect(),
        )
    }

    fn service(name: &str) -> FeatureRequest {
        FeatureRequest::Service(name.parse().unwrap())
    }

    fn names(request: &FeatureRequest, style: NameStyle) -> String {
        match select(&project(), request, style) {
            Ok(selection) => {
                let columns: Vec<_> = selection
                    .columns
                    .iter()
                    .map(|c| format!("{}={}", c.name, selection.view_of(c).unwrap().id))
                    .collect();
                columns.join(" ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn columns_come_in_the_order_asked_for_and_are_named_by_their_feature() {
        for (request, short, full) in [
            (
                service("delay_model"),
                "temp=weather@2 rain=weather@2 mean=delays@1",
                "weather__temp=weather@2 weather__rain=weather@2 delays__mean=delays@1",
            ),
            (
                features("delays:mean weather"),
                "mean=delays@1 temp=weather@2 rain=weather@2",
                "delays__mean=delays@1 weather__temp=weather@2 weather__rain=weather@2",
            ),
            // Only the features that share a name get their view's.
            (
                features("weather delays:temp"),
                "weather__temp=weather@2 rain=weather@2 delays__temp=delays@1",
                "weather__temp=weather@2 weather__rain=weather@2 delays__temp=delays@1",
            ),
            // A feature that is not asked for does not count.
            (
                features("weather:temp delays:mean"),
                "temp=weather@2 mean=delays@1",
                "weather__temp=weather@2 delays__mean=delays@1",
            ),
            (
                features("weather@1"),
                "temp=weather@1 gust=weather@1",
                "weather__temp=weather@1 weather__gust=weather@1",
            ),
            (
                service("pinned"),
                "gust=weather@1 rain=weather@2",
                "weather__gust=weather@1 weather__rain=weather@2",
            ),
        ] {
            assert_eq!(names(&request, NameStyle::Short), short, "{request:?}");
            assert_eq!(names(&request, NameStyle::Full), full, "{request:?}");
        }
    }

    #[test]
    fn a_view_is_there_once_in_the_order_of_first_use() {
        let request = features("delays:mean weather:temp delays:temp weather:rain");
        let selection = select(&project(), &request, NameStyle::Short).unwrap();
        let views: Vec<_> = selection.views.iter().map(|v| v.id.to_string()).collect();
        let used: Vec<_> = selection.columns.iter().map(|c| c.view).collect();
        assert_eq!(views, ["delays@1", "weather@2"]);
        assert_eq!(used, [0, 1, 0, 1]);
    }

    #[test]
    fn join_keys_are_those_of_all_views_by_name() {
        let selection = select(
            &project(),
            &features("weather:rain routes"),
            NameStyle::Short,
        );
        let keys = selection.unwrap().join_keys().unwrap();
        let keys: Vec<_> = keys.join_keys().iter().map(|k| k.name.as_str()).collect();
        assert_eq!(keys, ["dest", "origin"]);
    }

    #[test]
    fn every_mistake_in_a_request_is_named() {
        let ask = |text| names(&features(text), NameStyle::Short);
        insta::assert_snapshot!(ask(""), @"no feature is asked for; name at least one, as `view:feature` or `view`");
        insta::assert_snapshot!(names(&service("empty"), NameStyle::Short), @"no feature is asked for; name at least one, as `view:feature` or `view`");
        insta::assert_snapshot!(names(&service("delay_modl"), NameStyle::Short), @"there is no feature service `delay_modl`; did you mean `delay_model`?");
        insta::assert_snapshot!(names(&service("zzz"), NameStyle::Short), @"there is no feature service `zzz`; there are `delay_model`, `empty` and `pinned`");
        insta::assert_snapshot!(ask("wether:temp weather:tmp weather@3:temp weather@9 delays:zzz"), @r"
        there is no feature view `wether`; did you mean `weather`?
        the feature view `weather@2` has no feature `tmp`; did you mean `temp`?
        the feature view `weather` has no version 3; it has 1 and 2
        the feature view `weather` has no version 9; it has 1 and 2
        the feature view `delays@1` has no feature `zzz`; there are `mean` and `temp`
        ");
        insta::assert_snapshot!(ask("weather:gust"), @"the feature view `weather@2` has no feature `gust`; another version has it: `weather@1:gust`");
        insta::assert_snapshot!(ask("weather:temp weather:temp"), @"the feature `weather@2:temp` is asked for twice, by `weather:temp` and by `weather:temp`");
        insta::assert_snapshot!(ask("weather weather@2:rain"), @"the feature `weather@2:rain` is asked for twice, by `weather` and by `weather@2:rain`");
        insta::assert_snapshot!(ask("weather@1:temp weather@2:temp"), @"`weather@1:temp` and `weather@2:temp` would both be the column `weather__temp`; ask for them in two requests");
        insta::assert_snapshot!(ask("odd weather:temp delays:temp"), @"`odd@1:weather__temp` and `weather@2:temp` would both be the column `weather__temp`; ask for them in two requests");
        insta::assert_snapshot!(ask("weather bays routes"), @"the join key `origin` is string in the feature view `weather@2` and int32 in `bays@1`, so that no entity row fits both; ask for them in two requests");
        let none = Project::default();
        insta::assert_snapshot!(select(&none, &features("weather"), NameStyle::Short).unwrap_err(), @"there is no feature view `weather`; there is none");
        insta::assert_snapshot!(select(&none, &service("any"), NameStyle::Short).unwrap_err(), @"there is no feature service `any`; there is none");
    }
}
