//! The deployment: where a project's registry and stores are. Read from `vintner.yaml`.

use std::fmt;

use schemars::JsonSchema;
use url::Url;
use vintner_core::ProjectName;

use crate::{
    code,
    decode::{Field, Given, Object, Reader, optional, required},
    diagnostic::Diagnostic,
    node::Node,
    place::Span,
    schema,
};

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
    Redis {
        /// How to reach it.
        url: RedisUrl,
    },
}

/// The URL of a Redis server. What is printed of it, `Debug` included, has no password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(Url);

/// The schemes that the Redis client knows.
const REDIS_SCHEMES: &[&str] = &["redis", "rediss", "unix", "redis+unix"];

impl RedisUrl {
    /// The URL with its password, for the client that connects.
    pub fn reveal(&self) -> &str {
        self.0.as_str()
    }

    /// Why a text is no such URL, without giving the text away.
    fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("this is not a URL: {error}"))?;
        if !REDIS_SCHEMES.contains(&url.scheme()) {
            return Err(format!(
                "a URL of Redis does not begin with `{}:`",
                url.scheme()
            ));
        }
        let needs_host = url.scheme().starts_with("redis") && url.scheme() != "redis+unix";
        if needs_host && url.host_str().is_none_or(str::is_empty) {
            return Err("the URL names no host".to_owned());
        }
        Ok(Self(url))
    }
}

/// The URL with `***` for the password.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.clone();
        // Both fail only for URLs that cannot have a password. A query may hold one too.
        if shown.password().is_some() && shown.set_password(Some("***")).is_err() {
            return f.write_str("***");
        }
        shown.set_query(None);
        f.pad(shown.as_str())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
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
];

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
            refuse(reader, &object, "embedded", &["url", "cluster"]);
            let path = needed(reader, &object, "path", anchor)?;
            Some(OnlineStoreConfig::Embedded {
                path: reader.expanded(path)?,
            })
        }
        "redis" => {
            refuse(reader, &object, "redis", &["path"]);
            if let Some(cluster) = object.get("cluster") {
                let place = reader.place(reader.headline(cluster.node.span));
                reader.report(
                    Diagnostic::error(
                        code::NOT_SUPPORTED,
                        place,
                        "Redis Cluster is not supported yet",
                    )
                    .label("a cluster")
                    .help("name one server instead: url: \"redis://127.0.0.1:6379\""),
                );
                return None;
            }
            let given = needed(reader, &object, "url", anchor)?;
            let url = reader.expanded(given)?;
            redis_url(reader, given.node.span, &url)
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

fn redis_url(reader: &mut Reader<'_>, at: Span, url: &str) -> Option<OnlineStoreConfig> {
    RedisUrl::parse(url)
        .map_err(|reason| {
            let place = reader.place(at);
            reader.report(
                Diagnostic::error(code::BAD_URL, place, reason)
                    .label("not a URL of Redis")
                    .help("write it like \"redis://127.0.0.1:6379\", or rediss:// for TLS"),
            );
        })
        .ok()
        .map(|url| OnlineStoreConfig::Redis { url })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_of_a_redis_url_has_no_password() {
        let url = RedisUrl::parse("rediss://me:hunter2@db:6380/3?password=hunter2").unwrap();
        assert_eq!(url.to_string(), "rediss://me:***@db:6380/3");
        let config = OnlineStoreConfig::Redis { url: url.clone() };
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_eq!(
            url.reveal(),
            "rediss://me:hunter2@db:6380/3?password=hunter2"
        );
    }

    #[test]
    fn only_urls_of_redis_are_taken() {
        for (text, taken) in [
            ("redis://127.0.0.1:6379", true),
            ("redis://127.0.0.1:6379/0", true),
            ("unix:///run/redis.sock", true),
            ("redis+unix:///run/redis.sock?db=1", true),
            ("http://127.0.0.1", false),
            ("redis://", false),
            ("redis:127.0.0.1", false),
            ("127.0.0.1:6379", false),
            ("localhost", false),
            ("redis://host:port", false),
        ] {
            assert_eq!(RedisUrl::parse(text).is_ok(), taken, "{text}");
        }
    }
}
