//! A checked repo, and where each part of it stands, so that later phases can point at it.
//!
//! Not here: how it is read and checked ([`crate::parse`]).

use std::sync::Arc;

use vintner_core::{EntityName, ServiceName, SourceName, ViewName};

use crate::{
    definitions::{EntityDef, FeatureServiceDef, FeatureViewDef, SourceDef},
    deployment::Deployment,
    diagnostic::Diagnostic,
    node::Node,
    place::{Place, SourceFile, Span},
    written::Written,
};

/// Everything that a feature repo declares, in the order of its files. All names in it are known, none is there twice
/// in its kind.
#[derive(Clone, Debug)]
pub struct Repo {
    /// Where the project's registry and stores are.
    pub deployment: Deployment,
    /// The entities.
    pub entities: Vec<Declared<EntityDef>>,
    /// The data sources.
    pub sources: Vec<Declared<SourceDef>>,
    /// The feature views.
    pub views: Vec<Declared<FeatureViewDef>>,
    /// The feature services.
    pub services: Vec<Declared<FeatureServiceDef>>,
    pub(crate) deployment_fields: Fields,
}

/// An object and where it stands.
#[derive(Clone, Debug)]
pub struct Declared<T> {
    /// The object.
    pub value: T,
    /// Where its name stands.
    pub place: Place,
    /// Where its fields stand.
    pub fields: Fields,
}

/// Where the parts of one object stand.
#[derive(Clone)]
pub struct Fields {
    file: Arc<SourceFile>,
    node: Arc<Node>,
}

/// One object of a repo.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectRef {
    /// `vintner.yaml`.
    Deployment,
    /// An entity.
    Entity(EntityName),
    /// A data source.
    Source(SourceName),
    /// A feature view.
    View(ViewName),
    /// A feature service.
    Service(ServiceName),
}

/// One part of an object. What the object does not have stands where its name does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FieldPath {
    /// Its name.
    Name,
    /// The value of a field, such as `ttl`; `online_store.url` is a field of a field.
    Field(&'static str),
    /// The key of one entry of a mapping, such as the feature `temp` of `features`.
    Entry {
        /// The field that is a mapping.
        field: &'static str,
        /// The key.
        name: String,
    },
    /// One element of a list, such as `airport` of `entities`.
    Element {
        /// The field that is a list.
        field: &'static str,
        /// The element.
        value: String,
    },
    /// The word at a line and a column of the SQL in `query`, both from 1 and in characters, as SQL parsers count.
    /// Line 0 is the whole query.
    QueryPosition {
        /// The line of the SQL, not of the file.
        line: u64,
        /// The column of the SQL, not of the file.
        column: u64,
    },
}

impl Repo {
    /// The entity of that name.
    pub fn entity(&self, name: &EntityName) -> Option<&Declared<EntityDef>> {
        self.entities.iter().find(|found| found.value.name == *name)
    }

    /// The source of that name.
    pub fn source(&self, name: &SourceName) -> Option<&Declared<SourceDef>> {
        self.sources.iter().find(|found| found.value.name == *name)
    }

    /// The view of that name.
    pub fn view(&self, name: &ViewName) -> Option<&Declared<FeatureViewDef>> {
        self.views.iter().find(|found| found.value.name == *name)
    }

    /// The service of that name.
    pub fn service(&self, name: &ServiceName) -> Option<&Declared<FeatureServiceDef>> {
        self.services.iter().find(|found| found.value.name == *name)
    }

    /// Where a part of an object stands. What the repo does not have stands at the beginning of `vintner.yaml`.
    pub fn place(&self, object: &ObjectRef, field: &FieldPath) -> Place {
        self.fields(object).map_or_else(
            || self.deployment_fields.start(),
            |fields| fields.place(field),
        )
    }

    /// An error that a later phase has found at a part of an object.
    pub fn diagnose(
        &self,
        object: &ObjectRef,
        field: FieldPath,
        code: &'static str,
        message: String,
        help: Option<String>,
    ) -> Diagnostic {
        let diagnostic = Diagnostic::error(code, self.place(object, &field), message);
        match help {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        }
    }

    fn fields(&self, object: &ObjectRef) -> Option<&Fields> {
        match object {
            ObjectRef::Deployment => Some(&self.deployment_fields),
            ObjectRef::Entity(name) => self.entity(name).map(|found| &found.fields),
            ObjectRef::Source(name) => self.source(name).map(|found| &found.fields),
            ObjectRef::View(name) => self.view(name).map(|found| &found.fields),
            ObjectRef::Service(name) => self.service(name).map(|found| &found.fields),
        }
    }
}

impl Fields {
    pub(crate) fn new(file: &Arc<SourceFile>, node: &Arc<Node>) -> Self {
        Self {
            file: Arc::clone(file),
            node: Arc::clone(node),
        }
    }

    /// Where a part stands, or the name when the object does not have the part.
    pub fn place(&self, field: &FieldPath) -> Place {
        self.find(field).unwrap_or_else(|| self.name())
    }

    /// The places of every element of a list that says `value`.
    pub(crate) fn elements(&self, field: &str, value: &str) -> Vec<Place> {
        let elements = self.node.get(field).and_then(Node::elements);
        elements
            .unwrap_or_default()
            .iter()
            .filter(|element| element.text() == Some(value))
            .map(|element| Place::new(&self.file, element.span))
            .collect()
    }

    fn find(&self, field: &FieldPath) -> Option<Place> {
        match field {
            FieldPath::Name => None,
            FieldPath::Field(path) => {
                let mut names = path.split('.');
                let first = self.node.entry(names.next()?)?;
                let (key, value) = names.try_fold(first, |(_, value), name| value.entry(name))?;
                Some(self.value(key, value))
            }
            FieldPath::Entry { field, name } => {
                let (key, value) = self.node.entry(field)?;
                let place = match value.entry(name) {
                    Some((key, _)) => Place::new(&self.file, key.span),
                    None => self.value(key, value),
                };
                Some(place)
            }
            FieldPath::Element { field, value } => {
                let found = self.elements(field, value).into_iter().next();
                found.or_else(|| self.find(&FieldPath::Field(field)))
            }
            FieldPath::QueryPosition { line, column } => {
                let query = self.node.get("query")?;
                let word = Written::of(query, self.file.text())
                    .and_then(|written| written.word(*line, *column));
                Some(Place::new(&self.file, word.unwrap_or(query.span)))
            }
        }
    }

    /// The value of a field; the key instead, when the value is nothing or goes over many lines as a list or mapping.
    fn value(&self, key: &Node, value: &Node) -> Place {
        let place = Place::new(&self.file, value.span);
        let is_long = value.scalar().is_none() && place.text().contains(['\n', '\r']);
        if is_long || place.text().is_empty() {
            return Place::new(&self.file, key.span);
        }
        place
    }

    /// Where the name stands; a deployment has the name of its project.
    pub(crate) fn name(&self) -> Place {
        let name = ["name", "project"]
            .iter()
            .find_map(|field| self.node.entry(field));
        name.map_or_else(|| self.start(), |(key, value)| self.value(key, value))
    }

    /// The first key.
    fn start(&self) -> Place {
        let entries = self.node.entries().unwrap_or_default();
        let span = entries
            .first()
            .map_or(Span::at(self.node.span.start), |(key, _)| key.span);
        Place::new(&self.file, span)
    }
}

/// The path of the file alone.
impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Fields").field(&self.file).finish()
    }
}
