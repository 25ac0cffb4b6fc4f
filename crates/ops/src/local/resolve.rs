//! From the files of a repo to what the registry shall be: parse, look at the sources, plan every view.
//!
//! Mistakes are data: all that one stage finds come back at once, each with its place in the files. A stage that
//! found errors ends the way.

use std::path::Path;

use vintner_core::{KeySchema, KeySchemaError, SourceName, ViewId, ViewName, ViewVersion};
use vintner_offline::{
    planner::{self, PlanProblem, PlannedView, ProblemPlace, SourceProblem, ViewDefinition},
    sources::{SourceError, Sources},
};
use vintner_registry::{
    model::{About, Entity, FeatureService, Snapshot, Source, SourceFormat, ViewInput},
    plan::{self, DesiredProject, DesiredView, Plan},
};
use vintner_repo::{
    Diagnostic, EntityDef, FeatureServiceDef, FeatureViewDef, FieldPath, ObjectRef, Rendering,
    Repo, RepoFile, SourceDef,
};

use crate::{
    api::{ObjectKind, Problem, Severity},
    error::chain,
};

/// A repo that has been looked at as far as it goes.
pub(super) struct Resolved {
    /// Everything that is wrong or doubtful, in the order of the files.
    pub(super) problems: Vec<Problem>,
    /// How many objects of each kind the repo declares; empty when there are errors.
    pub(super) objects: Vec<(ObjectKind, usize)>,
    /// What applying it changes; none when there are errors.
    pub(super) plan: Option<Plan>,
}

/// Looks at a repo and plans it against a version of the registry. Reads the sources' schemas and no rows.
pub(super) async fn resolve(root: &Path, files: &[RepoFile], current: &Snapshot) -> Resolved {
    let parsed = vintner_repo::parse(files, &|name| std::env::var(name).ok());
    let mut diagnostics = parsed.diagnostics;
    let mut resolved = Resolved {
        problems: vec![],
        objects: vec![],
        plan: None,
    };
    if let Some(repo) = &parsed.repo {
        match desired(root, repo)
            .await
            .and_then(|desired| planned(repo, desired, current))
        {
            Ok(plan) => {
                resolved.plan = Some(plan);
                resolved.objects = vec![
                    (ObjectKind::Entity, repo.entities.len()),
                    (ObjectKind::Source, repo.sources.len()),
                    (ObjectKind::FeatureView, repo.views.len()),
                    (ObjectKind::FeatureService, repo.services.len()),
                ];
            }
            Err(found) => diagnostics.extend(found),
        }
    }
    resolved.problems = diagnostics.iter().map(problem).collect();
    resolved
}

fn problem(diagnostic: &Diagnostic) -> Problem {
    let place = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Problem {
        severity: if diagnostic.is_error() {
            Severity::Error
        } else {
            Severity::Warning
        },
        code: diagnostic.code().to_owned(),
        message: diagnostic.message().to_owned(),
        help: diagnostic.help_text().unwrap_or_default().to_owned(),
        file: diagnostic.file().to_owned(),
        line: place(diagnostic.line()),
        column: place(diagnostic.column()),
        rendered: diagnostic.render(Rendering::default()),
    }
}

async fn desired(root: &Path, repo: &Repo) -> Result<DesiredProject, Vec<Diagnostic>> {
    let sources = Sources::new(root);
    let declared: Vec<Source> = repo
        .sources
        .iter()
        .map(|declared| source(&declared.value))
        .collect();
    let (catalog, unread) = sources.catalog(declared).await;
    let mut wrong: Vec<Diagnostic> = unread
        .iter()
        .map(|(name, error)| unread_diagnostic(repo, name, error))
        .collect();
    wrong.extend(
        catalog
            .values()
            .flat_map(planner::check_source)
            .map(|problem| source_diagnostic(repo, problem)),
    );
    let mut entities = vec![];
    for declared in &repo.entities {
        match entity(&declared.value) {
            Ok(entity) => entities.push(entity),
            Err(error) => {
                let object = ObjectRef::Entity(declared.value.name.clone());
                wrong.push(repo.diagnose(
                    &object,
                    FieldPath::Field("join_keys"),
                    "plan::join_keys",
                    error.to_string(),
                    None,
                ));
            }
        }
    }
    let mut views = vec![];
    for declared in &repo.views {
        let definition = match view(&entities, &declared.value) {
            Ok(definition) => definition,
            Err(error) => {
                let object = ObjectRef::View(declared.value.name.clone());
                wrong.push(repo.diagnose(
                    &object,
                    FieldPath::Field("entities"),
                    "plan::join_keys",
                    error.to_string(),
                    None,
                ));
                continue;
            }
        };
        match planner::plan_view(&definition, &catalog) {
            Ok(planned) => views.push(desired_view(planned, &definition.name)),
            Err(problems) => wrong.extend(
                problems
                    .iter()
                    .map(|problem| view_diagnostic(repo, problem)),
            ),
        }
    }
    if wrong.iter().any(Diagnostic::is_error) {
        return Err(wrong);
    }
    Ok(DesiredProject {
        entities,
        sources: catalog.into_values().map(|known| known.source).collect(),
        views,
        services: repo
            .services
            .iter()
            .map(|declared| service(&declared.value))
            .collect(),
    })
}

fn planned(
    repo: &Repo,
    desired: DesiredProject,
    current: &Snapshot,
) -> Result<Plan, Vec<Diagnostic>> {
    plan::plan(current, &repo.deployment.project, desired).map_err(|error| {
        let problems = error.problems.iter();
        problems
            .map(|problem| registry_diagnostic(repo, problem))
            .collect()
    })
}

fn unread_diagnostic(repo: &Repo, source: &SourceName, error: &SourceError) -> Diagnostic {
    let object = ObjectRef::Source(source.clone());
    repo.diagnose(
        &object,
        FieldPath::Field("path"),
        "source::unreadable",
        chain(error),
        None,
    )
}

fn source_diagnostic(repo: &Repo, problem: SourceProblem) -> Diagnostic {
    let object = ObjectRef::Source(problem.source);
    let at = FieldPath::Field(problem.field);
    repo.diagnose(&object, at, problem.code, problem.message, problem.help)
}

fn view_diagnostic(repo: &Repo, problem: &PlanProblem) -> Diagnostic {
    let at = match &problem.at {
        ProblemPlace::Query { line, column, .. } => FieldPath::QueryPosition {
            line: *line,
            column: *column,
        },
        ProblemPlace::QueryWhole => FieldPath::Field("query"),
        ProblemPlace::Field(field) => FieldPath::Field(field),
        ProblemPlace::Feature(feature) => FieldPath::Entry {
            field: "features",
            name: feature.to_string(),
        },
    };
    let object = ObjectRef::View(problem.view.clone());
    repo.diagnose(
        &object,
        at,
        problem.code,
        problem.message.clone(),
        problem.help.clone(),
    )
}

fn registry_diagnostic(repo: &Repo, problem: &plan::PlanProblem) -> Diagnostic {
    use plan::PlanProblem as P;
    let (object, at, code) = match problem {
        P::Service { service, .. } => (
            ObjectRef::Service(service.clone()),
            FieldPath::Field("features"),
            "plan::service",
        ),
        P::DefaultType { view, feature, .. } | P::DuplicateFeature { view, feature } => (
            ObjectRef::View(view.clone()),
            FieldPath::Entry {
                field: "features",
                name: feature.to_string(),
            },
            "plan::feature",
        ),
        P::UnknownEntity { view, .. } => (
            ObjectRef::View(view.clone()),
            FieldPath::Field("entities"),
            "plan::entity",
        ),
        P::UnknownSource { view, .. } => (
            ObjectRef::View(view.clone()),
            FieldPath::Field("query"),
            "plan::source",
        ),
        P::NoFeature { view } => (
            ObjectRef::View(view.clone()),
            FieldPath::Field("query"),
            "plan::no_feature",
        ),
        P::VersionsUsedUp { view } => (
            ObjectRef::View(view.clone()),
            FieldPath::Name,
            "plan::versions",
        ),
        P::Duplicate { .. } => (ObjectRef::Deployment, FieldPath::Name, "plan::duplicate"),
    };
    repo.diagnose(&object, at, code, problem.to_string(), None)
}

fn entity(def: &EntityDef) -> Result<Entity, KeySchemaError> {
    Ok(Entity {
        name: def.name.clone(),
        join_keys: KeySchema::new(def.join_keys.clone())?,
        about: about(&def.about),
    })
}

fn source(def: &SourceDef) -> Source {
    Source {
        name: def.name.clone(),
        path: def.path.clone(),
        format: match def.format {
            vintner_repo::SourceFormat::Parquet => SourceFormat::Parquet,
            vintner_repo::SourceFormat::Csv => SourceFormat::Csv,
            vintner_repo::SourceFormat::Json => SourceFormat::Json,
            vintner_repo::SourceFormat::Delta => SourceFormat::Delta,
        },
        event_timestamp: def.event_timestamp.clone(),
        created_timestamp: def.created_timestamp.clone(),
        is_static: def.is_static,
        columns: vec![],
        about: about(&def.about),
    }
}

fn view(entities: &[Entity], def: &FeatureViewDef) -> Result<ViewDefinition, KeySchemaError> {
    let of_view = entities
        .iter()
        .filter(|entity| def.entities.contains(&entity.name));
    let join_keys = of_view.flat_map(|entity| entity.join_keys.join_keys().to_vec());
    Ok(ViewDefinition {
        name: def.name.clone(),
        entities: def.entities.clone(),
        join_keys: KeySchema::new(join_keys.collect())?,
        input: match &def.input {
            vintner_repo::ViewInput::Source(source) => ViewInput::Source(source.clone()),
            vintner_repo::ViewInput::Query(query) => ViewInput::Query(query.clone()),
        },
        event_timestamp: def.event_timestamp.clone(),
        created_timestamp: def.created_timestamp.clone(),
        ttl: def.ttl,
        lookback: def.lookback,
        contract: def.features.clone(),
        offline: def.offline,
        online: def.online,
        near_cache: def.near_cache,
        about: about(&def.about),
    })
}

/// The version and the layouts are the registry's to decide.
fn desired_view(planned: PlannedView, name: &ViewName) -> DesiredView {
    let id = ViewId {
        name: name.clone(),
        version: ViewVersion::FIRST,
    };
    planned.revision(id, vec![]).into()
}

fn service(def: &FeatureServiceDef) -> FeatureService {
    FeatureService {
        name: def.name.clone(),
        features: def.features.clone(),
        about: about(&def.about),
    }
}

fn about(def: &vintner_repo::About) -> About {
    About {
        description: def.description.clone(),
        owner: def.owner.clone(),
        tags: def.tags.clone(),
    }
}
