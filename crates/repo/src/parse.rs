//! From the files of a repo to a [`Repo`], or to all that is wrong with them.

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use vintner_core::{NameError, nearest::nearest};

use crate::{
    checks::{self, Declarations},
    code,
    decode::{Object, Reader, enumerated},
    definitions::{self, Kind},
    deployment::{self, Deployment},
    diagnostic::Diagnostic,
    expand::Env,
    node::Node,
    place::{Place, SourceFile, Span},
    read::{DEPLOYMENT_FILE, RepoFile},
    repo::{Declared, Fields, Repo},
    secrets, yaml,
};

/// What comes of parsing a repo.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The repo, when there is no error.
    pub repo: Option<Repo>,
    /// The errors and warnings, in the order of the files and of the places in them.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// The repo, if there is no error; else the errors and warnings.
    ///
    /// # Errors
    /// The diagnostics, of which at least one is an error.
    pub fn into_result(self) -> Result<Repo, Vec<Diagnostic>> {
        self.repo.ok_or(self.diagnostics)
    }
}

/// What people may call the deployment by mistake.
const MISNAMED_FILE: &str = "vintner.yml";

const DEPLOYMENT_EXAMPLE: &str = "write one like this:\n\
    project: flights\n\
    registry: .vintner/registry\n\
    offline_store: .vintner/offline\n\
    online_store: {type: embedded, path: .vintner/online}";

/// Parses and checks the files of a repo. `env` gives the values of environment variables.
pub fn parse(files: &[RepoFile], env: &dyn Fn(&str) -> Option<String>) -> Parsed {
    let mut found = Vec::new();
    let mut declarations = Declarations::default();
    let mut deployment = None;
    let is_there = |path| files.iter().any(|file| file.path == path);
    let has_deployment = is_there(DEPLOYMENT_FILE);
    for file in files {
        match file.path.rsplit_once('/') {
            None if file.path == DEPLOYMENT_FILE => {
                deployment = read_deployment(file, env, &mut found);
            }
            None if file.path == MISNAMED_FILE && !has_deployment => {
                found.push(misnamed_deployment(file));
            }
            None if file.path == MISNAMED_FILE => found.push(second_deployment(file)),
            Some((_, DEPLOYMENT_FILE | MISNAMED_FILE)) => found.push(second_deployment(file)),
            _ => read_definitions(file, env, &mut declarations, &mut found),
        }
    }
    if !has_deployment && !is_there(MISNAMED_FILE) {
        found.push(missing_deployment());
    }
    let deployed = deployment.as_ref().map(|(deployment, _)| deployment);
    checks::check(&declarations, deployed, &mut found);
    let diagnostics = in_order(found, files);
    let sound = !diagnostics.iter().any(Diagnostic::is_error);
    let repo = deployment
        .filter(|_| sound)
        .map(|(deployment, deployment_fields)| Repo {
            deployment,
            entities: declarations.entities,
            sources: declarations.sources,
            views: declarations.views,
            services: declarations.services,
            deployment_fields,
        });
    Parsed { repo, diagnostics }
}

/// Parses `vintner.yaml` alone.
pub fn parse_deployment(
    file: &RepoFile,
    env: &dyn Fn(&str) -> Option<String>,
) -> (Option<Deployment>, Vec<Diagnostic>) {
    let mut found = Vec::new();
    let deployment = read_deployment(file, env, &mut found);
    let diagnostics = in_order(found, std::slice::from_ref(file));
    let sound = !diagnostics.iter().any(Diagnostic::is_error);
    let deployment = deployment.filter(|_| sound);
    (deployment.map(|(deployment, _)| deployment), diagnostics)
}

/// By file, then by place, errors first; what is found twice is told once.
fn in_order(mut found: Vec<Diagnostic>, files: &[RepoFile]) -> Vec<Diagnostic> {
    let order: BTreeMap<&str, usize> = files
        .iter()
        .enumerate()
        .map(|(at, file)| (file.path.as_str(), at))
        .collect();
    found.sort_by_key(|diagnostic| {
        (
            order.get(diagnostic.file()).copied(),
            diagnostic.place().span(),
            diagnostic.severity(),
        )
    });
    found.dedup();
    found
}

/// A file as diagnostics show it, its documents, and what is not YAML in it.
fn load(
    file: &RepoFile,
    secrets_of: fn(&Node, &str) -> Vec<secrets::Secret>,
    found: &mut Vec<Diagnostic>,
) -> (Arc<SourceFile>, Vec<Node>, bool) {
    let loaded = yaml::load(&file.text);
    let is_whole = loaded.problems.is_empty();
    let secrets: Vec<_> = loaded
        .documents
        .iter()
        .flat_map(|document| secrets_of(document, &file.text))
        .collect();
    let mut covered: Vec<Span> = secrets.iter().map(|secret| secret.span).collect();
    covered.extend(secrets::of_text(&file.text));
    let source = SourceFile::new(&file.path, &file.text, &covered);
    let place = |span| Place::new(&source, span);
    found.extend(
        secrets
            .iter()
            .map(|secret| secret.warning(place(secret.span))),
    );
    found.extend(loaded.problems.into_iter().map(|problem| {
        Diagnostic::error(problem.code, place(problem.span), problem.message).help(problem.help)
    }));
    (source, loaded.documents, is_whole)
}

fn read_deployment(
    file: &RepoFile,
    env: &Env<'_>,
    found: &mut Vec<Diagnostic>,
) -> Option<(Deployment, Fields)> {
    let (source, documents, is_whole) = load(file, secrets::of_deployment, found);
    let mut documents = documents.into_iter();
    let Some(first) = documents.next() else {
        if is_whole {
            let place = Place::new(&source, Span::at(0));
            let message = format!("{} says nothing", file.path);
            found.push(
                Diagnostic::error(code::MISSING_DEPLOYMENT, place, message)
                    .help(DEPLOYMENT_EXAMPLE),
            );
        }
        return None;
    };
    let mut reader = Reader::new(&source, env);
    for other in documents {
        let place = reader.place(reader.headline(other.span));
        let message = format!("{} has more than one document", file.path);
        reader.report(
            Diagnostic::error(code::SECOND_DEPLOYMENT, place, message)
                .label("another document")
                .help("move entities, sources, views and services to another file"),
        );
    }
    let first = Arc::new(first);
    let deployment = deployment::read(&mut reader, &first);
    found.append(&mut reader.found);
    Some((deployment?, Fields::new(&source, &first)))
}

fn second_deployment(file: &RepoFile) -> Diagnostic {
    let source = SourceFile::new(&file.path, &file.text, &secrets::of_text(&file.text));
    let place = Place::new(&source, Span::at(0));
    let message = format!("a feature repo has one {DEPLOYMENT_FILE}, at its root");
    Diagnostic::error(code::SECOND_DEPLOYMENT, place, message)
        .label("another one")
        .help("remove this file, or move its folder out of the repo")
}

fn misnamed_deployment(file: &RepoFile) -> Diagnostic {
    let source = SourceFile::new(&file.path, &file.text, &secrets::of_text(&file.text));
    let place = Place::new(&source, Span::at(0));
    let message = format!("the feature repo has no {DEPLOYMENT_FILE}");
    Diagnostic::error(code::MISSING_DEPLOYMENT, place, message)
        .label("this file has another name")
        .help(format!("rename it to {DEPLOYMENT_FILE}"))
}

fn missing_deployment() -> Diagnostic {
    let nowhere = Place::new(&SourceFile::new(DEPLOYMENT_FILE, "", &[]), Span::at(0));
    let message = format!("the feature repo has no {DEPLOYMENT_FILE}");
    Diagnostic::error(code::MISSING_DEPLOYMENT, nowhere, message).help(DEPLOYMENT_EXAMPLE)
}

fn read_definitions(
    file: &RepoFile,
    env: &Env<'_>,
    declarations: &mut Declarations,
    found: &mut Vec<Diagnostic>,
) {
    let (source, documents, is_whole) = load(file, secrets::of_definition, found);
    if !is_whole {
        declarations.unreadable.extend(Kind::ALL);
    }
    let mut reader = Reader::new(&source, env);
    for document in documents {
        read_definition(&mut reader, Arc::new(document), declarations);
    }
    found.append(&mut reader.found);
}

fn read_definition(reader: &mut Reader<'_>, node: Arc<Node>, declarations: &mut Declarations) {
    let Some(kind) = kind(reader, &node) else {
        declarations.unreadable.extend(Kind::ALL);
        return;
    };
    let says_kind = node.get("kind").map_or(node.span, |kind| kind.span);
    let Some(object) = reader.fields_of(&node, kind.any(), kind.fields(), says_kind) else {
        return;
    };
    let fields = Fields::new(reader.file, &node);
    let at = fields.name().span();
    match kind {
        Kind::Entity => {
            let name = name(reader, &object, kind, declarations);
            let value = name.map(|name| definitions::read_entity(reader, &object, name));
            declarations.entities.extend(declared(value, fields));
        }
        Kind::Source => {
            let name = name(reader, &object, kind, declarations);
            let value = name.map(|name| definitions::read_source(reader, &object, name, at));
            declarations.sources.extend(declared(value, fields));
        }
        Kind::FeatureView => {
            let name = name(reader, &object, kind, declarations);
            let value = name.map(|name| definitions::read_view(reader, &object, name, at));
            declarations.views.extend(declared(value, fields));
        }
        Kind::FeatureService => {
            let name = name(reader, &object, kind, declarations);
            let value = name.map(|name| definitions::read_service(reader, &object, name));
            declarations.services.extend(declared(value, fields));
        }
    }
}

fn declared<T>(value: Option<T>, fields: Fields) -> Option<Declared<T>> {
    Some(Declared {
        value: value?,
        place: fields.name(),
        fields,
    })
}

/// The object's name; or, when it has none that can be used, one that no other object has, so that all else about
/// the object is still read and checked.
fn name<N: FromStr<Err = NameError>>(
    reader: &mut Reader<'_>,
    object: &Object<'_>,
    kind: Kind,
    declarations: &mut Declarations,
) -> Option<N> {
    let name = object.get("name").and_then(|given| reader.name(given));
    name.or_else(|| {
        declarations.unreadable.insert(kind);
        format!("unnamed_{}", declarations.count()).parse().ok()
    })
}

/// What kind of object a document is. Reports what is none.
fn kind(reader: &mut Reader<'_>, node: &Node) -> Option<Kind> {
    let kinds = || Kind::ALL.map(Kind::name);
    if node.entries().is_none() {
        let place = reader.place(reader.headline(node.span));
        reader.report(
            Diagnostic::error(
                code::NOT_A_MAPPING,
                place,
                format!("a document must be one object, but is {}", node.described()),
            )
            .label(node.described())
            .help("write `key: value` lines, and `---` on a line of its own between objects"),
        );
        return None;
    }
    let Some(given) = node.get("kind") else {
        let keys = node.entries().unwrap_or_default().iter();
        let first = keys.clone().next().map_or(node.span, |(key, _)| key.span);
        let meant = keys
            .filter_map(|(key, _)| Some((key.span, key.text()?)))
            .find(|(_, key)| *key != "name" && nearest(key, ["kind"]).is_some());
        let missing = Diagnostic::error(
            code::MISSING_KIND,
            reader.place(meant.map_or(first, |(span, _)| span)),
            "this object does not say its kind",
        );
        reader.report(match meant {
            Some(_) => missing.label("not `kind`").help("did you mean `kind`?"),
            None => missing.label("needs `kind`").help(format!(
                "add `kind: KIND`, where KIND is one of {}",
                enumerated(kinds())
            )),
        });
        return None;
    };
    let text = given.text().unwrap_or_default();
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == text);
    if kind.is_none() {
        let help = match nearest(text, kinds()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("the kinds are {}", enumerated(kinds())),
        };
        let place = reader.place(reader.headline(given.span));
        let message = match given.text() {
            Some(text) if !given.is_null() => format!("there is no kind `{text}`"),
            _ => format!("`kind` is {}", given.described()),
        };
        reader.report(
            Diagnostic::error(code::UNKNOWN_KIND, place, message)
                .label("unknown kind")
                .help(help),
        );
    }
    kind
}
