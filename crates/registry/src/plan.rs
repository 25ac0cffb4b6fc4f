//! What an `apply` would change, worked out before anything is written.
//!
//! [`plan`] compares what is declared with what is applied and decides which views keep their version; [`rollback`]
//! plans the way back to an older state. Both give a [`Plan`], which people read and [`apply`] makes a snapshot of.
//! All of this is pure: no I/O, no clock.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt,
};

use vintner_core::{
    EntityName, FeatureName, FeatureType, ProjectName, RegistryVersion, ServiceName, SourceName,
    Timestamp, ViewId, ViewName, ViewVersion,
};

use crate::{
    change::{Change, Diff, ObjectKind, ObjectRef, RevisionDiff, diff},
    model::{Entity, FeatureService, Layout, Project, Snapshot, Source, View, ViewRevision},
    selection::{FeatureRequest, NameStyle, SelectionProblem, Suggestion, select},
};

/// Everything that a project declares, resolved: what shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesiredProject {
    /// Its entities.
    pub entities: Vec<Entity>,
    /// Its sources.
    pub sources: Vec<Source>,
    /// Its feature views.
    pub views: Vec<DesiredView>,
    /// Its feature services.
    pub services: Vec<FeatureService>,
}

/// A feature view as declared: a [`ViewRevision`] whose version and layouts are yet to be decided, by the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredView(ViewRevision);

/// What an apply would do to one project: a value to show, to ask about and to carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The registry version that it was made against. It can be applied to no other.
    pub base: RegistryVersion,
    /// The project.
    pub project: ProjectName,
    /// What changes, by kind and name.
    pub changes: Vec<Change>,
    /// The project as it will be.
    pub next: Project,
}

/// Everything that keeps a desired project from being applied, at least one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// What is wrong, by kind and name.
    pub problems: Vec<PlanProblem>,
}

/// One thing that keeps a desired project from being applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanProblem {
    /// Two objects of one kind have one name.
    #[error("the {object} is declared twice")]
    Duplicate {
        /// The object.
        object: ObjectRef,
    },
    /// A view names an entity that nothing declares.
    #[error(
        "the feature view `{view}` uses the entity `{entity}`, which nothing declares{suggestion}"
    )]
    UnknownEntity {
        /// The view.
        view: ViewName,
        /// The entity.
        entity: EntityName,
        /// What may have been meant.
        suggestion: Suggestion,
    },
    /// A view reads a source that nothing declares.
    #[error(
        "the feature view `{view}` reads the source `{source_name}`, which nothing declares{suggestion}"
    )]
    UnknownSource {
        /// The view.
        view: ViewName,
        /// The source.
        source_name: SourceName,
        /// What may have been meant.
        suggestion: Suggestion,
    },
    /// A view without a feature.
    #[error(
        "the feature view `{view}` has no feature; its query gives only join keys and timestamps"
    )]
    NoFeature {
        /// The view.
        view: ViewName,
    },
    /// A view with two features of one name.
    #[error("the feature view `{view}` has the feature `{feature}` twice")]
    DuplicateFeature {
        /// The view.
        view: ViewName,
        /// The feature.
        feature: FeatureName,
    },
    /// A default of another type than its feature.
    #[error(
        "the default of `{view}:{feature}` is of type {found}; the feature is of type {wanted}"
    )]
    DefaultType {
        /// The view.
        view: ViewName,
        /// The feature.
        feature: FeatureName,
        /// The feature's type.
        wanted: FeatureType,
        /// The default's.
        found: FeatureType,
    },
    /// A view name whose versions have run out.
    #[error("the feature view `{view}` has used up its versions; give it another name")]
    VersionsUsedUp {
        /// The view.
        view: ViewName,
    },
    /// A service asks for what there is not, or for what does not go together.
    #[error("the feature service `{service}`: {problem}")]
    Service {
        /// The service.
        service: ServiceName,
        /// What is wrong with its features.
        problem: SelectionProblem,
    },
}

/// The registry has moved since a plan was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("planned against registry version {planned}, which is now {current}; plan again")]
pub struct Stale {
    /// The version that the plan was made against.
    pub planned: RegistryVersion,
    /// The version that the registry has now.
    pub current: RegistryVersion,
}

/// Plans the way from what is applied to what is declared.
///
/// A view keeps its version when every stored row stays right: features may be added (which is a backfill), and ttl,
/// defaults, descriptions and flags may change. Else it gets the next version that its name has never had; the old
/// version stays, with its data, for those who pin it. Applying what is applied already is a plan without a change.
///
/// # Errors
/// [`PlanError`] with everything that is wrong in what is declared.
pub fn plan(
    current: &Snapshot,
    project: &ProjectName,
    desired: DesiredProject,
) -> Result<Plan, PlanError> {
    let mut problems = Vec::new();
    let nothing = Project::default();
    let before = current.projects.get(project).unwrap_or(&nothing);
    let mut next = Project {
        entities: unique(
            desired.entities,
            ObjectKind::Entity,
            |e| e.name.clone(),
            &mut problems,
        ),
        sources: unique(
            desired.sources,
            ObjectKind::Source,
            |s| s.name.clone(),
            &mut problems,
        ),
        views: BTreeMap::new(),
        services: unique(
            desired.services,
            ObjectKind::FeatureService,
            |s| s.name.clone(),
            &mut problems,
        ),
        versions_used: BTreeMap::new(),
        retired: BTreeMap::new(),
    };
    let views = unique(
        desired.views,
        ObjectKind::FeatureView,
        |v| v.name().clone(),
        &mut problems,
    );
    for (name, view) in views {
        check_view(&view, &next, &mut problems);
        match next_view(before, view) {
            Some(view) => {
                next.views.insert(name, view);
            }
            None => problems.push(PlanProblem::VersionsUsedUp { view: name }),
        }
    }
    remember(before, &mut next);
    for service in next.services.keys() {
        let request = FeatureRequest::Service(service.clone());
        if let Err(error) = select(&next, &request, NameStyle::Short) {
            let of_service = |problem| PlanProblem::Service {
                service: service.clone(),
                problem,
            };
            problems.extend(error.problems.into_iter().map(of_service));
        }
    }
    if problems.is_empty() {
        Ok(Plan::to(current, project.clone(), next))
    } else {
        Err(PlanError { problems })
    }
}

/// Plans the way back to what a project was in an older snapshot, or forward again.
///
/// The project becomes equal to what it was then, but for what must not be forgotten: the versions that view names
/// have had, and the layouts that stored rows may have. A project that was not there then
/// loses all it has.
pub fn rollback(current: &Snapshot, old: &Snapshot, project: &ProjectName) -> Plan {
    let nothing = Project::default();
    let before = current.projects.get(project).unwrap_or(&nothing);
    let mut next = old.projects.get(project).cloned().unwrap_or_default();
    remember(before, &mut next);
    Plan::to(current, project.clone(), next)
}

/// Retires a version of a view that is not the current one: references to it mean nothing from then on, and what is
/// stored of it may be deleted. Of a version that is not there, or is current, the plan changes nothing.
pub fn retire(current: &Snapshot, project: &ProjectName, id: &ViewId) -> Plan {
    let mut next = current.projects.get(project).cloned().unwrap_or_default();
    let view = next.views.get_mut(&id.name);
    let old = view.filter(|view| view.current().is_some_and(|now| now.id != *id));
    if let Some(revision) = old.and_then(|view| view.revisions.remove(&id.version)) {
        next.retired.insert(id.clone(), revision.layouts);
    }
    Plan::to(current, project.clone(), next)
}

/// The registry as it is once a plan has been carried out: the next version, which
/// [`RegistryStore::write`](crate::store::RegistryStore::write) then tries to make the present one.
///
/// # Errors
/// [`Stale`] when the plan was made against another version than `current`.
pub fn apply(
    plan: &Plan,
    current: &Snapshot,
    author: &str,
    reason: &str,
    now: Timestamp,
) -> Result<Snapshot, Stale> {
    if plan.base != current.version {
        return Err(Stale {
            planned: plan.base,
            current: current.version,
        });
    }
    let mut projects = current.projects.clone();
    projects.insert(plan.project.clone(), plan.next.clone());
    Ok(Snapshot {
        version: current.version.next(),
        created_at: now,
        author: author.to_owned(),
        reason: reason.to_owned(),
        projects,
    })
}

impl Plan {
    /// The plan that makes a project what is given, without a question whether it may become that: for a project that
    /// was planned elsewhere against the same snapshot.
    pub fn to(current: &Snapshot, project: ProjectName, next: Project) -> Self {
        let nothing = Project::default();
        let before = current.projects.get(&project).unwrap_or(&nothing);
        let Diff { changes } = diff(before, &next);
        Self {
            base: current.version,
            project,
            changes,
            next,
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// The changes as people read them, with a line that counts them. Text without colour, the same on every run.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            base,
            project,
            changes,
            next: _,
        } = self;
        if changes.is_empty() {
            return writeln!(
                f,
                "Project `{project}`: nothing to change; registry version {base} is what is declared."
            );
        }
        for change in changes {
            write!(f, "{change}")?;
        }
        let diff = Diff {
            changes: changes.clone(),
        };
        writeln!(
            f,
            "Project `{project}`, from registry version {base}: {}.",
            diff.summary()
        )
    }
}

/// One line for each problem.
impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for PlanError {}

impl DesiredView {
    fn name(&self) -> &ViewName {
        &self.0.id.name
    }

    /// The view as the given version of it.
    fn revision(self, version: ViewVersion, written: &[Layout]) -> ViewRevision {
        let Self(mut view) = self;
        view.id.version = version;
        view.layouts = layouts_ending_in(written.iter().cloned(), Layout::of(&view.features));
        // What is said about columns that are no features would be compared by nothing.
        let names: BTreeSet<_> = view.features.iter().map(|feature| &feature.name).collect();
        view.definitions.retain(|name, _| names.contains(name));
        view.lineage.retain(|name, _| names.contains(name));
        view
    }
}

/// The version and the layouts that the revision says have no meaning.
impl From<ViewRevision> for DesiredView {
    fn from(mut view: ViewRevision) -> Self {
        view.id.version = ViewVersion::FIRST;
        view.layouts.clear();
        Self(view)
    }
}

/// What a view becomes: its current version changed in place where every stored row stays right, else a new version.
/// None when there is no version left.
fn next_view(before: &Project, desired: DesiredView) -> Option<View> {
    let name = desired.name().clone();
    let existing = before.views.get(&name);
    let mut revisions = existing.map_or_else(BTreeMap::new, |view| view.revisions.clone());
    let fresh = match before.versions_used.get(&name) {
        None => ViewVersion::FIRST,
        Some(used) => ViewVersion(used.0.checked_add(1)?),
    };
    let revision = match existing.and_then(View::current) {
        None => desired.revision(fresh, &[]),
        Some(current) => {
            let kept = desired
                .clone()
                .revision(current.id.version, &current.layouts);
            if RevisionDiff::between(current, &kept).needs_new_version() {
                desired.revision(fresh, &[])
            } else {
                kept
            }
        }
    };
    revisions.insert(revision.id.version, revision);
    Some(View { name, revisions })
}

/// Carries over what a project must not forget, whatever becomes of its views: the versions that their names have
/// had, and the layouts that stored rows of each version may have.
fn remember(before: &Project, next: &mut Project) {
    next.versions_used.extend(
        next.views
            .iter()
            .filter_map(|(name, view)| Some((name.clone(), view.current()?.id.version))),
    );
    for (name, used) in &before.versions_used {
        let kept = next.versions_used.entry(name.clone()).or_insert(*used);
        *kept = (*kept).max(*used);
    }
    next.retired = before.retired.clone();
    for revision in before.views.values().flat_map(|v| v.revisions.values()) {
        let retired = next.retired.entry(revision.id.clone()).or_default();
        retired.extend(revision.layouts.iter().cloned());
    }
    for revision in next
        .views
        .values_mut()
        .flat_map(|v| v.revisions.values_mut())
    {
        if let Some(written) = next.retired.remove(&revision.id) {
            let written = written.into_iter().chain(revision.layouts.drain(..));
            revision.layouts = layouts_ending_in(written.collect::<Vec<_>>(), revision.layout());
        }
    }
}

/// The layouts, each once, in their order, but for the present one, which is the last.
fn layouts_ending_in(written: impl IntoIterator<Item = Layout>, present: Layout) -> Vec<Layout> {
    let mut layouts = Vec::new();
    for layout in written {
        if layout != present && !layouts.contains(&layout) {
            layouts.push(layout);
        }
    }
    layouts.push(present);
    layouts
}

fn unique<K: Ord + fmt::Display, T>(
    objects: Vec<T>,
    kind: ObjectKind,
    name_of: impl Fn(&T) -> K,
    problems: &mut Vec<PlanProblem>,
) -> BTreeMap<K, T> {
    let mut named = BTreeMap::new();
    for object in objects {
        match named.entry(name_of(&object)) {
            Entry::Vacant(vacant) => {
                vacant.insert(object);
            }
            Entry::Occupied(occupied) => {
                let name = occupied.key().to_string();
                problems.push(PlanProblem::Duplicate {
                    object: ObjectRef { kind, name },
                });
            }
        }
    }
    named
}

/// Checks what a view refers to, and what the rest relies on; its types are the planner's to check.
fn check_view(DesiredView(view): &DesiredView, next: &Project, problems: &mut Vec<PlanProblem>) {
    for entity in &view.entities {
        if !next.entities.contains_key(entity) {
            problems.push(PlanProblem::UnknownEntity {
                view: view.id.name.clone(),
                entity: entity.clone(),
                suggestion: Suggestion::among(entity.as_str(), next.entities.keys()),
            });
        }
    }
    for source in &view.sources {
        if !next.sources.contains_key(source) {
            problems.push(PlanProblem::UnknownSource {
                view: view.id.name.clone(),
                source_name: source.clone(),
                suggestion: Suggestion::among(source.as_str(), next.sources.keys()),
            });
        }
    }
    if view.features.is_empty() {
        problems.push(PlanProblem::NoFeature {
            view: view.id.name.clone(),
        });
    }
    let mut seen = BTreeSet::new();
    for field in &view.features {
        if !seen.insert(&field.name) {
            problems.push(PlanProblem::DuplicateFeature {
                view: view.id.name.clone(),
                feature: field.name.clone(),
            });
        }
        let found = field.default.as_ref().map(|value| value.feature_type());
        if let Some(found) = found.filter(|found| *found != field.feature_type) {
            problems.push(PlanProblem::DefaultType {
                view: view.id.name.clone(),
                feature: field.name.clone(),
                wanted: field.feature_type,
                found,
            });
        }
    }
}

#[cfg(test)]
mod tests;
