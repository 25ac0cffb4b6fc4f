//! Where an online store in Redis is: at a URL, in a cluster, or where sentinels say; and what TLS needs.
//!
//! Not here: reading the files for TLS, and any connection.

use std::fmt;

use url::Url;

use crate::{
    code,
    decode::{Field, Given, Object, Reader, optional, required},
    diagnostic::Diagnostic,
    place::Span,
};

/// An online store in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisDeployment {
    /// The servers.
    pub servers: RedisServers,
    /// Files for TLS. With sentinels, TLS is spoken when this is given; at a URL, when its scheme says so.
    pub tls: Option<TlsFiles>,
}

/// How the servers are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisServers {
    /// One server.
    One(RedisUrl),
    /// Some nodes of a cluster, with the same login and scheme.
    Cluster(Vec<RedisUrl>),
    /// The master that sentinels name.
    Sentinel(SentinelDeployment),
}

/// A master and the sentinels that know where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentinelDeployment {
    /// What the sentinels call the master.
    pub master: String,
    /// Host and port of the sentinels.
    pub nodes: Vec<(String, u16)>,
    /// The user at the master.
    pub user: Option<String>,
    /// The password at the master.
    pub password: Option<Secret>,
    /// The user at the sentinels.
    pub sentinel_user: Option<String>,
    /// The password at the sentinels.
    pub sentinel_password: Option<Secret>,
}

/// PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who may vouch for the servers; none: whom the system trusts.
    pub ca: Option<String>,
    /// The certificate and the key that the servers are shown.
    pub identity: Option<(String, String)>,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text, for the client that connects.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The URL of a Redis server. What is printed of it, `Debug` included, has no password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(Url);

/// The schemes of a URL of Redis: without TLS and with it.
const REDIS_SCHEMES: &[&str] = &["redis", "rediss"];

/// The port of a sentinel that is given without one.
const SENTINEL_PORT: u16 = 26_379;

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
        if url.host_str().is_none_or(str::is_empty) {
            return Err("the URL names no host".to_owned());
        }
        let database = url.path().trim_matches('/');
        if !database.is_empty() && database.parse::<u32>().is_err() {
            return Err("what stands after the host is not the number of a database".to_owned());
        }
        if url.fragment().is_some() || url.query().is_some() {
            return Err(
                "a URL of Redis ends with the host, or with the number of a database".to_owned(),
            );
        }
        Ok(Self(url))
    }

    fn is_tls(&self) -> bool {
        self.0.scheme() == "rediss"
    }

    /// What all nodes of a cluster have alike.
    fn access(&self) -> (&str, &str, Option<&str>) {
        (self.0.scheme(), self.0.username(), self.0.password())
    }

    fn has_database(&self) -> bool {
        !matches!(self.0.path().trim_matches('/'), "" | "0")
    }
}

/// The URL with `***` for the password.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.clone();
        // Fails only for URLs that cannot have a password.
        if shown.password().is_some() && shown.set_password(Some("***")).is_err() {
            return f.write_str("***");
        }
        f.pad(shown.as_str())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

const SENTINEL_FIELDS: &[Field] = &[
    required("master", "mymaster"),
    required("nodes", "[\"10.0.0.1:26379\"]"),
    optional("user", "vintner"),
    optional("password", "${REDIS_PASSWORD}"),
    optional("sentinel_user", "vintner"),
    optional("sentinel_password", "${SENTINEL_PASSWORD}"),
];

const TLS_FIELDS: &[Field] = &[
    optional("ca", "tls/ca.crt"),
    optional("cert", "tls/client.crt"),
    optional("key", "tls/client.key"),
];

/// Reads what says where Redis is. `anchor` is where a missing field is reported.
pub(super) fn read(
    reader: &mut Reader<'_>,
    object: &Object<'_>,
    anchor: Span,
) -> Option<RedisDeployment> {
    let tls = match object.get("tls") {
        Some(given) => Some((given, tls(reader, given)?)),
        None => None,
    };
    let ways = ["url", "cluster", "sentinel"];
    let mut given = ways.iter().filter_map(|way| object.get(way));
    let first = match given.next() {
        Some(first) => first,
        None => super::needed(reader, object, "url", anchor)?,
    };
    if let Some(second) = given.next() {
        let place = reader.place(reader.headline(second.node.span));
        reader.report(
            Diagnostic::error(
                code::REDIS_TWICE,
                place,
                format!(
                    "the online store has both {} and {}",
                    first.subject, second.subject
                ),
            )
            .label("where else")
            .help("give `url` for one server, `cluster` for a cluster, or `sentinel`; only one of them"),
        );
        return None;
    }
    let servers = if object.get("url").is_some() {
        RedisServers::One(url(reader, first)?)
    } else if object.get("cluster").is_some() {
        RedisServers::Cluster(cluster(reader, first)?)
    } else {
        RedisServers::Sentinel(sentinel(reader, first)?)
    };
    let is_tls = match &servers {
        RedisServers::One(url) => url.is_tls(),
        RedisServers::Cluster(urls) => urls.iter().all(RedisUrl::is_tls),
        RedisServers::Sentinel(_) => true,
    };
    if let Some((given, _)) = tls.as_ref().filter(|_| !is_tls) {
        let place = reader.place(reader.headline(given.node.span));
        reader.report(
            Diagnostic::error(
                code::BAD_TLS,
                place,
                "the online store has `tls`, and is asked without TLS",
            )
            .label("not used")
            .help(format!(
                "write rediss:// in {}, or remove `tls`",
                first.subject
            )),
        );
        return None;
    }
    Some(RedisDeployment {
        servers,
        tls: tls.map(|(_, files)| files),
    })
}

fn url(reader: &mut Reader<'_>, given: Given<'_>) -> Option<RedisUrl> {
    let text = reader.expanded(given)?;
    RedisUrl::parse(&text)
        .map_err(|reason| {
            let place = reader.place(given.node.span);
            reader.report(
                Diagnostic::error(code::BAD_URL, place, reason)
                    .label("not a URL of Redis")
                    .help("write it like \"redis://127.0.0.1:6379\", or rediss:// for TLS"),
            );
        })
        .ok()
}

fn cluster(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Vec<RedisUrl>> {
    let nodes = reader.list(given, "cluster", "redis://10.0.0.1:6379")?;
    let mut urls: Vec<RedisUrl> = Vec::new();
    for &node in &nodes {
        let url = url(reader, node)?;
        let wrong = if url.has_database() {
            Some(("a cluster has no numbered databases", "remove the number"))
        } else if urls
            .first()
            .is_some_and(|first| first.access() != url.access())
        {
            Some((
                "the nodes of a cluster have one scheme, user and password, and this one has others",
                "write the same ones in every URL",
            ))
        } else {
            None
        };
        if let Some((message, help)) = wrong {
            let place = reader.place(node.node.span);
            reader.report(
                Diagnostic::error(code::CLUSTER_NODES, place, message)
                    .label("this node")
                    .help(help),
            );
            return None;
        }
        urls.push(url);
    }
    Some(urls)
}

fn sentinel(reader: &mut Reader<'_>, given: Given<'_>) -> Option<SentinelDeployment> {
    let object = reader.object(given, "the sentinel", SENTINEL_FIELDS)?;
    let mut wrong = false;
    let mut text = |reader: &mut Reader<'_>, field: &str| {
        let given = object.get(field)?;
        let text = reader.expanded(given);
        wrong |= text.is_none();
        text
    };
    let master = text(reader, "master");
    let user = text(reader, "user");
    let password = text(reader, "password").map(Secret);
    let sentinel_user = text(reader, "sentinel_user");
    let sentinel_password = text(reader, "sentinel_password").map(Secret);
    let nodes = object.get("nodes").and_then(|given| nodes(reader, given));
    if wrong {
        return None;
    }
    Some(SentinelDeployment {
        master: master?,
        nodes: nodes?,
        user,
        password,
        sentinel_user,
        sentinel_password,
    })
}

fn nodes(reader: &mut Reader<'_>, given: Given<'_>) -> Option<Vec<(String, u16)>> {
    let nodes = reader.list(given, "nodes", "10.0.0.1:26379")?;
    let mut addresses = Vec::new();
    for node in nodes {
        let text = reader.expanded(node)?;
        let Some(address) = address(&text) else {
            let place = reader.place(node.node.span);
            reader.report(
                Diagnostic::error(
                    code::BAD_ADDRESS,
                    place,
                    "this is not the host and port of a sentinel",
                )
                .label("not an address")
                .help("write it like \"10.0.0.1:26379\", without a scheme, user or password"),
            );
            return None;
        };
        addresses.push(address);
    }
    Some(addresses)
}

/// `host`, `host:port`, `[ipv6]` or `[ipv6]:port`.
fn address(text: &str) -> Option<(String, u16)> {
    let is_host = |host: &str| {
        !host.is_empty()
            && host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
    };
    let port = |text: &str| match text {
        "" => Some(SENTINEL_PORT),
        text => text.strip_prefix(':')?.parse().ok(),
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        return Some((host.to_owned(), port(rest)?));
    }
    let end = text.find(':').unwrap_or(text.len());
    let (host, rest) = text.split_at(end);
    is_host(host).then_some(())?;
    Some((host.to_owned(), port(rest)?))
}

fn tls(reader: &mut Reader<'_>, given: Given<'_>) -> Option<TlsFiles> {
    let before = reader.found.len();
    let object = reader.object(given, "`tls`", TLS_FIELDS)?;
    let [ca, cert, key] = ["ca", "cert", "key"]
        .map(|field| object.get(field).and_then(|given| reader.expanded(given)));
    let pair = [object.get("cert"), object.get("key")];
    let lonely = match pair {
        [Some(cert), None] => Some((cert, "key")),
        [None, Some(key)] => Some((key, "cert")),
        _ => None,
    };
    if let Some((given, missing)) = lonely {
        let place = reader.place(given.node.span);
        reader.report(
            Diagnostic::error(
                code::BAD_TLS,
                place,
                format!("`tls` has {} and no `{missing}`", given.subject),
            )
            .label("one of a pair")
            .help(format!(
                "add `{missing}: tls/client.{}`",
                if missing == "key" { "key" } else { "crt" }
            )),
        );
    }
    let sound = !reader.found[before..].iter().any(Diagnostic::is_error);
    sound.then(|| TlsFiles {
        ca,
        identity: cert.zip(key),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_of_a_redis_url_has_no_password() {
        let url = RedisUrl::parse("rediss://me:hunter2@db:6380/3").unwrap();
        assert_eq!(url.to_string(), "rediss://me:***@db:6380/3");
        let config = RedisDeployment {
            servers: RedisServers::One(url.clone()),
            tls: None,
        };
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_eq!(url.reveal(), "rediss://me:hunter2@db:6380/3");
    }

    #[test]
    fn only_urls_of_redis_are_taken() {
        for (text, taken) in [
            ("redis://127.0.0.1:6379", true),
            ("redis://127.0.0.1:6379/0", true),
            ("rediss://redis.example.com", true),
            ("redis://[::1]:6379", true),
            ("unix:///run/redis.sock", false),
            ("http://127.0.0.1", false),
            ("redis://", false),
            ("redis:127.0.0.1", false),
            ("127.0.0.1:6379", false),
            ("localhost", false),
            ("redis://host:port", false),
            ("redis://host/database", false),
            ("rediss://host#insecure", false),
            ("redis://host?password=hunter2", false),
        ] {
            assert_eq!(RedisUrl::parse(text).is_ok(), taken, "{text}");
        }
    }

    #[test]
    fn an_address_has_a_host_and_may_have_a_port() {
        for (text, want) in [
            ("10.0.0.1:26380", Some(("10.0.0.1", 26_380))),
            (
                "sentinel-1.internal",
                Some(("sentinel-1.internal", SENTINEL_PORT)),
            ),
            ("[::1]:26380", Some(("::1", 26_380))),
            ("[::1]", Some(("::1", SENTINEL_PORT))),
            ("::1", None),
            ("redis://10.0.0.1", None),
            ("user:password@10.0.0.1", None),
            ("10.0.0.1:port", None),
            ("10.0.0.1:70000", None),
            (":26379", None),
            ("", None),
        ] {
            let got = address(text);
            let got = got.as_ref().map(|(host, port)| (host.as_str(), *port));
            assert_eq!(got, want, "{text:?}");
        }
    }
}
