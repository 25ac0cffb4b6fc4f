//! Checks, plans, changes and the catalog.

use vintner_core::{FeatureType, RegistryVersion};
use vintner_ops::api::{
    ApplyReport, Change, Changes, CheckReport, Detail, ObjectKind, PlanReport, Problem,
    ServiceColumn, Severity, Summary, Version, ViewDetail,
};
use vintner_proto::{
    convert::{self, ConvertError, each},
    v1,
};
use vintner_registry::codec;
use vintner_repo::RepoFile;

use super::{
    Travels, chosen, from_each, instant, missing, optional, parse, parse_each, texts, to_each,
    wrong,
};

impl Travels for RepoFile {
    type Message = v1::RepoFile;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::RepoFile {
            path: self.path,
            text: self.text,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            path: message.path,
            text: message.text,
        })
    }
}

impl Travels for Problem {
    type Message = v1::Problem;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::Problem {
            severity: match self.severity {
                Severity::Warning => v1::Severity::Warning,
                Severity::Error => v1::Severity::Error,
            }
            .into(),
            code: self.code,
            message: self.message,
            help: self.help,
            file: self.file,
            line: self.line,
            column: self.column,
            rendered: self.rendered,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            severity: match chosen("severity", message.severity)? {
                None | Some(v1::Severity::Unspecified) => return Err(missing("severity")),
                Some(v1::Severity::Warning) => Severity::Warning,
                Some(v1::Severity::Error) => Severity::Error,
            },
            code: message.code,
            message: message.message,
            help: message.help,
            file: message.file,
            line: message.line,
            column: message.column,
            rendered: message.rendered,
        })
    }
}

impl Travels for ObjectKind {
    type Message = i32;

    fn into_message(self) -> Result<i32, ConvertError> {
        Ok(match self {
            Self::Entity => v1::ObjectKind::Entity,
            Self::Source => v1::ObjectKind::Source,
            Self::FeatureView => v1::ObjectKind::FeatureView,
            Self::FeatureService => v1::ObjectKind::FeatureService,
        }
        .into())
    }

    fn from_message(number: i32) -> Result<Self, ConvertError> {
        Ok(match chosen("kind", number)? {
            None | Some(v1::ObjectKind::Unspecified) => return Err(missing("kind")),
            Some(v1::ObjectKind::Entity) => Self::Entity,
            Some(v1::ObjectKind::Source) => Self::Source,
            Some(v1::ObjectKind::FeatureView) => Self::FeatureView,
            Some(v1::ObjectKind::FeatureService) => Self::FeatureService,
        })
    }
}

impl Travels for CheckReport {
    type Message = v1::CheckResponse;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        let objects = self.objects.into_iter().map(|(kind, count)| {
            Ok(v1::ObjectCount {
                kind: kind.into_message()?,
                count: count as u64,
            })
        });
        Ok(v1::CheckResponse {
            problems: to_each(self.problems)?,
            objects: objects.collect::<Result<_, ConvertError>>()?,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        let objects = each(message.objects, "objects", |object| {
            let count =
                usize::try_from(object.count).map_err(|_| wrong("is too many").within("count"))?;
            Ok((ObjectKind::from_message(object.kind)?, count))
        })?;
        Ok(Self {
            problems: from_each("problems", message.problems)?,
            objects,
        })
    }
}

impl Travels for PlanReport {
    type Message = v1::PlanResponse;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::PlanResponse {
            problems: to_each(self.problems)?,
            changes: self.changes.map(Changes::into_message).transpose()?,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            problems: from_each("problems", message.problems)?,
            changes: optional("changes", message.changes)?,
        })
    }
}

impl Travels for ApplyReport {
    type Message = v1::ApplyResponse;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::ApplyResponse {
            problems: to_each(self.problems)?,
            changes: self.changes.map(Changes::into_message).transpose()?,
            version: self.version.map(|version| version.0),
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            problems: from_each("problems", message.problems)?,
            changes: optional("changes", message.changes)?,
            version: message.version.map(RegistryVersion),
        })
    }
}

impl Travels for Changes {
    type Message = v1::Changes;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::Changes {
            project: self.project.to_string(),
            base_version: self.base.0,
            changes: to_each(self.changes)?,
            text: self.text,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            project: parse("project", &message.project)?,
            base: RegistryVersion(message.base_version),
            changes: from_each("changes", message.changes)?,
            text: message.text,
        })
    }
}

impl Travels for Change {
    type Message = v1::Change;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::Change {
            kind: self.kind.into_message()?,
            name: self.name,
            action: self.action,
            reasons: self.reasons,
            data: self.data,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            kind: ObjectKind::from_message(message.kind)?,
            name: message.name,
            action: message.action,
            reasons: message.reasons,
            data: message.data,
        })
    }
}

impl Travels for Summary {
    type Message = v1::Summary;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::Summary {
            name: self.name,
            detail: self.detail,
            description: self.description,
            owner: self.owner,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            name: message.name,
            detail: message.detail,
            description: message.description,
            owner: message.owner,
        })
    }
}

impl Travels for Detail {
    type Message = v1::ShowResponse;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        use v1::show_response::Object;
        let object = match self {
            Self::Entity { entity, used_by } => Object::Entity(v1::EntityDetail {
                entity: Some((&entity).into()),
                used_by: texts(&used_by),
            }),
            Self::Source { source, used_by } => Object::Source(v1::SourceDetail {
                source: Some((&source).into()),
                used_by: texts(&used_by),
            }),
            Self::FeatureView(view) => Object::FeatureView(view.into_message()?),
            Self::FeatureService { service, columns } => {
                Object::FeatureService(v1::ServiceDetail {
                    service: Some((&service).into()),
                    columns: to_each(columns)?,
                })
            }
        };
        Ok(v1::ShowResponse {
            object: Some(object),
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        use v1::show_response::Object;
        Ok(match message.object.ok_or_else(|| missing("object"))? {
            Object::Entity(detail) => Self::Entity {
                entity: convert::required(detail.entity, "entity")?,
                used_by: parse_each("used_by", &detail.used_by)?,
            },
            Object::Source(detail) => Self::Source {
                source: convert::required(detail.source, "source")?,
                used_by: parse_each("used_by", &detail.used_by)?,
            },
            Object::FeatureView(detail) => {
                Self::FeatureView(Box::new(ViewDetail::from_message(detail)?))
            }
            Object::FeatureService(detail) => Self::FeatureService {
                service: convert::required(detail.service, "service")?,
                columns: from_each("columns", detail.columns)?,
            },
        })
    }
}

impl Travels for ViewDetail {
    type Message = v1::ViewDetail;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::ViewDetail {
            name: self.revision.id.name.to_string(),
            revision: Some((&self.revision).into()),
            versions: to_each(self.versions)?,
            used_by: self.used_by,
            delta_version: self.delta_version,
            rows: self.rows,
            newest_event: self.newest_event.map(convert::micros),
            last_run: self.last_run.map(Travels::into_message).transpose()?,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        let name = parse("name", &message.name)?;
        let revision = message.revision.ok_or_else(|| missing("revision"))?;
        Ok(Self {
            revision: codec::revision(&name, revision).map_err(|error| error.within("revision"))?,
            versions: from_each("versions", message.versions)?,
            used_by: message.used_by,
            delta_version: message.delta_version,
            rows: message.rows,
            newest_event: message.newest_event.map(instant),
            last_run: optional("last_run", message.last_run)?,
        })
    }
}

impl Travels for ServiceColumn {
    type Message = v1::ServiceColumn;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::ServiceColumn {
            name: self.name,
            r#type: Some(self.feature_type.into()),
            from: self.from,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            name: message.name,
            feature_type: convert::required::<_, FeatureType>(message.r#type, "type")?,
            from: message.from,
        })
    }
}

impl Travels for Version {
    type Message = v1::Version;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::Version {
            version: self.version.0,
            created_at: self.created_at.micros(),
            author: self.author,
            reason: self.reason,
            summary: self.summary,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            version: RegistryVersion(message.version),
            created_at: instant(message.created_at),
            author: message.author,
            reason: message.reason,
            summary: message.summary,
        })
    }
}
