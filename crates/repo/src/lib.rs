//! The feature repo: reads the YAML of a folder, checks it, and says everything that is wrong with it at once, each
//! mistake with its file, line and column and the text underlined.
//!
//! Start at [`parse()`]: files in, a [`Repo`] or [`Diagnostic`]s out. [`read_repo`] gets the files from a folder.
//! Later phases that find something wrong (a missing column, a source that is not there) point at its place with
//! [`Repo::diagnose`].
//!
//! * Holds always: a [`Repo`] has no error; all names in it are checked and known. No input makes this crate panic,
//!   and every place lies inside its file. What is shown of a file has no passwords.
//! * Units: lines and columns from 1, columns in characters; spans in bytes.
//! * Not here: SQL, data, the registry, the network. Parsing does no I/O; variables come from a given function.
//!
//! ```
//! use vintner_repo::{RepoFile, Rendering, parse};
//!
//! let file = |path: &str, text: &str| RepoFile { path: path.into(), text: text.into() };
//! let files = [
//!     file("vintner.yaml", "{project: flights, registry: r, offline_store: o, online_store: {type: embedded, path: p}}"),
//!     file("airports.yaml", "kind: entity\nname: airport\njoin_keys: {origin: strin}\n"),
//! ];
//! let parsed = parse(&files, &|name| std::env::var(name).ok());
//!
//! assert!(parsed.repo.is_none());
//! let mistake = &parsed.diagnostics[0];
//! assert_eq!((mistake.file(), mistake.line(), mistake.column()), ("airports.yaml", 3, 21));
//! assert_eq!(mistake.help_text(), Some("did you mean `string`?"));
//! println!("{}", mistake.render(Rendering::default()));
//! ```

mod checks;
pub mod code;
mod decode;
mod definitions;
mod deployment;
mod diagnostic;
mod expand;
mod node;
mod parse;
mod place;
mod read;
mod repo;
mod schema;
mod secrets;
mod written;
mod yaml;

#[cfg(test)]
mod tests;

pub use definitions::{
    About, EntityDef, FeatureServiceDef, FeatureViewDef, Kind, SourceDef, SourceFormat,
    UnknownFormat, ViewInput,
};
pub use deployment::{
    Deployment, OnlineStoreConfig, RedisDeployment, RedisServers, RedisUrl, Secret,
    SentinelDeployment, TlsFiles,
};
pub use diagnostic::{Diagnostic, Rendering, Severity};
pub use parse::{Parsed, parse, parse_deployment};
pub use place::{Place, SourceFile, Span};
pub use read::{DEPLOYMENT_FILE, ReadError, RepoFile, find_repo, read_repo};
pub use repo::{Declared, FieldPath, Fields, ObjectRef, Repo};
pub use schema::json_schema;
