//! The deployment: where a project's registry and stores are. Read from `vintner.yaml`.

mod redis;

use schemars::JsonSchema;
use vintner_core::ProjectName;

use crate::{
    code,
    decode::{Field, Given, Object, Reader, optional, required},
    diagnostic::Diagnostic,
    node::Node,
    place::Span,
    schema,
};

pub use redis::{RedisDeployment, RedisServers, RedisUrl, Secret, SentinelDeployment, TlsFiles};

/// What `vintner.yaml` says. Paths are relative to its folder; `${VAR}` and `${VAR:-default}` are expanded.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename = "deployment", deny_unknown_fields)]
pub struct Deployment {
    /// The project that the repo declares.
    #[schemars(with = "schema::ProjectName")]
    pub project: ProjectName,
    /// Where the registry is: a folder or an object-store URL.
    #[schemars(length(min = 1))]
    pub registry: String,
    /// Where the offline store is: a folder or an object-store URL.
    #[schemars(length(min = 1))]
    pub offline_store: String,
    /// Which online store there is, and where.
    #[schemars(with = "schema::OnlineStore")]
    pub online_store: OnlineStoreConfig,
}

/// Which online store there is, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnlineStoreConfig {
    /// The embedded store.
    Embedded {
        /// Its folder.
        path: String,
    },
    /// Redis.
    Redis(RedisDeployment),
}

const FIELDS: &[Field] = &[
    required("project", "flights"),
    required("registry", ".vintner/registry"),
    required("offline_store", ".vintner/offline"),
    required("online_store", "{type: embedded, path: .vintner/online}"),
];

const STORE_FIELDS: &[Field] = &[
    required("type", "embedded"),
    optional("path", ".vintner/online"),
    optional("url", "\"redis://127.0.0.1:6379\""),
    optional("cluster", "[\"redis://10.0.0.1:6379\"]"),
    optional(
        "sentinel",
        "{master: mymaster, nodes: [\"10.0.0.1:26379\"]}",
    ),
    optional("tls", "{ca: tls/ca.crt}"),
];

/// The fields that only Redis has.
const REDIS_FIELDS: &[&str] = &["url", "cluster", "sentinel", "tls"];

/// Reads a deployment. None when anything is wrong with it.
pub(crate) fn read(reader: &mut Reader<'_>, node: &Node) -> Option<Deployment> {
    let before = reader.found.len();
    let first_key = node
        .entries()
        .and_then(|entries| entries.first())
        .map_or(node.span, |(key, _)| key.span);
    let object = reader.fields_of(node, "the deployment", FIELDS, first_key)?;
    let project = object.get("project").and_then(|given| {
        let text = reader.expanded(given)?;
        reader.name_of(&text, given.node.span)
    });
    let registry = location(reader, &object, "registry");
    let offline_store = location(reader, &object, "offline_store");
    let online_store = object
        .get("online_store")
        .and_then(|given| online_store(reader, given));
    let deployment = Deployment {
        project: project?,
        registry: registry?,
        offline_store: offline_store?,
        online_store: online_store?,
    };
    let sound = !reader.found[before..].iter().any(Diagnostic::is_error);
    sound.then_some(deployment)
}

fn location(reader: &mut Reader<'_>, object: &Object<'_>, field: &str) -> Option<String> {
    object.get(field).and_then(|given| reader.expanded(given))
}

fn online_store(reader: &mut Reader<'_>, given: Given<'_>) -> Option<OnlineStoreConfig> {
    let anchor = reader.headline(given.node.span);
    let object = reader.object(given, "the online store", STORE_FIELDS)?;
    let store_type = object.get("type")?;
    match reader.expanded(store_type)?.as_str() {
        "embedded" => {
            refuse(reader, &object, "embedded", REDIS_FIELDS);
            let path = needed(reader, &object, "path", anchor)?;
            Some(OnlineStoreConfig::Embedded {
                path: reader.expanded(path)?,
            })
        }
        "redis" => {
            refuse(reader, &object, "redis", &["path"]);
            redis::read(reader, &object, anchor).map(OnlineStoreConfig::Redis)
        }
        other => {
            let help = match vintner_core::nearest::nearest(other, ["embedded", "redis"]) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "the types are `embedded` and `redis`".to_owned(),
            };
            let place = reader.place(store_type.node.span);
            reader.report(
                Diagnostic::error(
                    code::UNKNOWN_STORE,
                    place,
                    format!("there is no online store of type `{other}`"),
                )
                .label("unknown type")
                .help(help),
            );
            None
        }
    }
}

/// Reports fields that the store of this type does not have.
fn refuse(reader: &mut Reader<'_>, object: &Object<'_>, store: &str, fields: &[&str]) {
    for given in fields.iter().filter_map(|field| object.get(field)) {
        let place = reader.place(reader.headline(given.node.span));
        reader.report(
            Diagnostic::error(
                code::UNKNOWN_FIELD,
                place,
                format!("an online store of type `{store}` has no {}", given.subject),
            )
            .label("does not belong here")
            .help(format!("remove {}, or change the type", given.subject)),
        );
    }
}

fn needed<'n>(
    reader: &mut Reader<'_>,
    object: &Object<'n>,
    field: &str,
    anchor: Span,
) -> Option<Given<'n>> {
    let given = object.get(field);
    if given.is_none() {
        let example = STORE_FIELDS
            .iter()
            .find(|known| known.name == field)
            .map_or("", |known| known.example);
        let place = reader.place(anchor);
        reader.report(
            Diagnostic::error(
                code::MISSING_FIELD,
                place,
                format!("the online store has no `{field}`"),
            )
            .label(format!("needs `{field}`"))
            .help(format!("add `{field}: {example}`")),
        );
    }
    given
}
