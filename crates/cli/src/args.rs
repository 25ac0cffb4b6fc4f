//! What can be typed.

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    ops::RangeInclusive,
    path::PathBuf,
};

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use vintner_core::{
    ColumnName, DatasetName, FeatureRef, RegistryVersion, ServiceName, Timestamp, Ttl, ViewName,
};
use vintner_ops::{
    api::{DEFAULT_RATE, DEFAULT_RETENTION, Sample, TeardownTarget, WriteToken},
    push_file,
};
use vintner_server::{ServerConfig, Share};

use crate::exit;

/// How many rows of a file are pushed at a time.
const BATCH_ROWS: NonZeroUsize = match NonZeroUsize::new(push_file::BATCH_ROWS) {
    Some(rows) => rows,
    None => NonZeroUsize::MIN,
};
/// What `--memory` must be at least.
const LEAST_MEMORY: usize = 64 << 20;
/// What `--max-message` can be.
const MESSAGE_SIZES: RangeInclusive<u64> = 64 << 10..=1 << 30;

/// A feature store that is right about time.
#[derive(Debug, Parser)]
#[command(name = "vintner", version, about, after_help = exit::HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// The feature repo [default: the nearest folder upwards with a vintner.yaml, or ./feature_repo]
    #[arg(long, global = true, value_name = "DIR", env = "VINTNER_REPO", value_hint = ValueHint::DirPath)]
    pub(crate) repo: Option<PathBuf>,
    /// Talk to a running service instead of opening the stores, like http://127.0.0.1:7600
    #[arg(long, global = true, value_name = "URL", env = "VINTNER_SERVER")]
    pub(crate) server: Option<String>,
    /// Tables and lines for people, or JSON for programs
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Take this as the present moment, to ask what was known then; not with --server
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        env = "VINTNER_NOW",
        conflicts_with = "server"
    )]
    pub(crate) now: Option<Timestamp>,
    /// What joins and runs may hold in memory, like 4GiB [default: half of the machine's]; not with --server
    #[arg(
        long,
        global = true,
        value_name = "SIZE",
        env = "VINTNER_MEMORY",
        value_parser = memory,
        conflicts_with = "server"
    )]
    pub(crate) memory: Option<NonZeroUsize>,
}

/// The form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table on a terminal, plain lines with tabs in a pipe
    Table,
    /// JSON
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a small repo that works at once, with data
    Init {
        /// The folder to write; it must be new or empty
        #[arg(value_hint = ValueHint::DirPath)]
        dir: PathBuf,
    },
    /// Parse and plan everything, touch nothing
    Check,
    /// Show what `apply` would change, and what it means
    Plan {
        /// Exit with 3 when there are changes
        #[arg(long)]
        exit_code: bool,
    },
    /// Make the registry what the repo says
    Apply {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Bring the offline and the online store up to date
    Materialize(Materialize),
    /// Join entity rows with features as they stood at each row's time
    GetHistorical(GetHistorical),
    /// List the saved training datasets
    Datasets,
    /// Show a saved training dataset, or make it again
    #[command(subcommand)]
    Dataset(Dataset),
    /// Put rows of a file into a view's table and into the online store, at once
    Push(Push),
    /// Look up feature vectors as of now
    GetOnline(GetOnline),
    /// List the objects of a kind
    List {
        /// The kind
        #[arg(value_enum)]
        kind: Kind,
    },
    /// Show one object with all that is known of it
    Show {
        /// The kind
        #[arg(value_enum)]
        kind: Kind,
        /// The name
        name: String,
    },
    /// List the registry's versions, newest first
    History {
        /// How many at the most
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: usize,
    },
    /// Show what changed between two versions of the registry
    Diff {
        /// The older version
        #[arg(value_name = "V1", value_parser = registry_version)]
        from: RegistryVersion,
        /// The newer version
        #[arg(value_name = "V2", value_parser = registry_version)]
        to: RegistryVersion,
    },
    /// Make a new version of the registry that equals an old one
    Rollback {
        /// The old version
        #[arg(value_name = "V", value_parser = registry_version)]
        to: RegistryVersion,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// List what ran, newest first: materializations and deletions
    Runs {
        /// Only what ran of this view
        view: Option<ViewName>,
        /// How many at the most
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: usize,
    },
    /// Put the rows of tables into few files that scans can skip
    Compact {
        /// The views [default: all]
        #[arg(value_name = "VIEW")]
        views: Vec<ViewName>,
    },
    /// Delete files of tables that no version needs any more
    Vacuum(Vacuum),
    /// Compare the online store with the tables, and mend it
    Verify(Verify),
    /// Delete what is stored of a deleted view or an old version
    Teardown(Teardown),
    /// Delete all rows of some entities from a view's tables and from the online store
    Delete(Delete),
    /// Look at every store and say what to do
    Doctor,
    /// Serve gRPC and Arrow Flight on one port, with /metrics, /healthz and /readyz
    Serve(Serve),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// `serve`
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The address; port 0 lets the system choose one
    #[arg(long, default_value = "127.0.0.1:7600", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// The form of the log on stderr
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT", env = "VINTNER_LOG_FORMAT")]
    pub(crate) log_format: LogFormat,
    /// A call that takes longer is told of in the log
    #[arg(
        long,
        default_value = "1s",
        value_name = "DURATION",
        env = "VINTNER_SLOW_CALL"
    )]
    pub(crate) slow_call: Ttl,
    #[command(flatten)]
    pub(crate) limits: Limits,
}

/// What a service bears; what is beyond it is refused at once.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Limits {
    /// How many calls are answered at one time
    #[arg(
        long,
        value_name = "N",
        env = "VINTNER_MAX_CALLS",
        default_value_t = most(ServerConfig::default().max_concurrent)
    )]
    pub(crate) max_calls: NonZeroUsize,
    /// How much of them may be online requests for one selection of features
    #[arg(
        long,
        value_name = "PERCENT",
        env = "VINTNER_SELECTION_SHARE",
        default_value_t = ServerConfig::default().selection_share
    )]
    pub(crate) selection_share: Share,
    /// How much of them may be calls of one connection; its further calls wait
    #[arg(
        long,
        value_name = "PERCENT",
        env = "VINTNER_CONNECTION_SHARE",
        default_value_t = ServerConfig::default().connection_share
    )]
    pub(crate) connection_share: Share,
    /// How many entities one online request may ask for, and how many rows one push may have
    #[arg(
        long,
        value_name = "N",
        env = "VINTNER_MAX_ENTITIES",
        default_value_t = most(ServerConfig::default().max_batch)
    )]
    pub(crate) max_entities: NonZeroUsize,
    /// How many entities all online requests together may look up at one time
    #[arg(
        long,
        value_name = "N",
        env = "VINTNER_MAX_ENTITIES_AT_ONCE",
        default_value_t = most(ServerConfig::default().max_concurrent_entities)
    )]
    pub(crate) max_entities_at_once: NonZeroUsize,
    /// How large one message of a request may be, from 64KiB to 1GiB
    #[arg(
        long,
        value_name = "SIZE",
        env = "VINTNER_MAX_MESSAGE",
        default_value = "16MiB",
        value_parser = message_size
    )]
    pub(crate) max_message: usize,
}

fn most(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN)
}

/// The form of a log.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

/// `materialize`
#[derive(Debug, Args)]
pub(crate) struct Materialize {
    /// The views [default: all]
    #[arg(value_name = "VIEW")]
    pub(crate) views: Vec<ViewName>,
    /// Compute this window of event time again: from here, inclusive
    #[arg(long, value_name = "TIME", requires = "end")]
    pub(crate) start: Option<Timestamp>,
    /// Up to here, exclusive
    #[arg(long, value_name = "TIME", requires = "start")]
    pub(crate) end: Option<Timestamp>,
    /// Compute everything again
    #[arg(long, conflicts_with = "start")]
    pub(crate) full_refresh: bool,
    /// Read no source: fill the online store again from the whole tables
    #[arg(long, conflicts_with_all = ["start", "full_refresh"])]
    pub(crate) online_only: bool,
}

/// `verify`
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The views [default: all that are online]
    #[arg(value_name = "VIEW")]
    pub(crate) views: Vec<ViewName>,
    /// Look at a share of the entities, the same ones each time, like 1%
    #[arg(long, value_name = "PERCENT", default_value = "100%")]
    pub(crate) sample: Sample,
    /// Mend what differs; `force`: also rows that are newer than the table's
    #[arg(long, value_enum, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "safe")]
    pub(crate) repair: Option<Repair>,
}

/// What is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Repair {
    /// All but rows that are newer than the table's
    Safe,
    /// All: the table's row takes the place of a newer one
    Force,
}

/// `teardown`
#[derive(Debug, Args)]
pub(crate) struct Teardown {
    /// The view, of which all unused versions are meant, or a version, like weather@1
    #[arg(value_name = "VIEW")]
    pub(crate) target: TeardownTarget,
    /// Only the online rows; of a current version too
    #[arg(long)]
    pub(crate) online: bool,
    /// How many entities' rows to delete online in a second at most
    #[arg(long, value_name = "ROWS", default_value_t = default_rate())]
    pub(crate) rate: NonZeroU32,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `delete`
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The view, of which all versions are meant that are not retired, or a version, like weather@1
    #[arg(value_name = "VIEW")]
    pub(crate) target: TeardownTarget,
    #[command(flatten)]
    pub(crate) entities: Entities,
    /// Only say what would be deleted
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Whose rows.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Entities {
    /// The join keys of one entity; give it again for more entities
    #[arg(long = "entity", value_name = "KEY=VALUE[,KEY=VALUE]")]
    pub(crate) entities: Vec<String>,
    /// The entities: a Parquet, CSV or Arrow IPC file with the join keys, by its extension; other columns say nothing
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) entity_rows: Option<PathBuf>,
}

fn default_rate() -> NonZeroU32 {
    NonZeroU32::new(DEFAULT_RATE).unwrap_or(NonZeroU32::MIN)
}

/// `push`
#[derive(Debug, Args)]
pub(crate) struct Push {
    /// The view
    pub(crate) view: ViewName,
    /// The rows: a Parquet, CSV, JSON (an object per line) or Arrow IPC file, by its extension
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) rows: PathBuf,
    /// How many rows go at a time; the same for a file that is pushed again
    #[arg(long, value_name = "N", default_value_t = BATCH_ROWS)]
    pub(crate) batch_rows: NonZeroUsize,
}

/// `vacuum`
#[derive(Debug, Args)]
pub(crate) struct Vacuum {
    /// The views whose tables are meant [default: the whole offline store]
    #[arg(value_name = "VIEW")]
    pub(crate) views: Vec<ViewName>,
    /// How long a version stays readable after the next one has come; a run that reads an older one fails
    #[arg(long, value_name = "DURATION", default_value = DEFAULT_RETENTION)]
    pub(crate) retention: Ttl,
    /// Only say what would be deleted
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Which features.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Features {
    /// All features of a feature service
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<ServiceName>,
    /// Features as view:feature, or view for all of a view's
    #[arg(long, value_name = "VIEW:FEATURE", value_delimiter = ',', num_args = 1..)]
    pub(crate) features: Vec<FeatureRef>,
}

/// Which entity rows.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Spine {
    /// The entity rows: a Parquet, CSV or Arrow IPC file, by its extension
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) entity_rows: Option<PathBuf>,
    /// One row for every key that is known at this moment
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<Timestamp>,
    /// One row for every key at each moment from the first time to the second
    #[arg(long, value_names = ["FROM", "TO"], num_args = 2, requires = "every")]
    pub(crate) between: Option<Vec<Timestamp>>,
    /// The rows of a SELECT over feature views and sources
    #[arg(long, value_name = "SQL")]
    pub(crate) spine: Option<String>,
}

/// `get-historical`
#[derive(Debug, Args)]
pub(crate) struct GetHistorical {
    #[command(flatten)]
    pub(crate) features: Features,
    #[command(flatten)]
    pub(crate) spine: Spine,
    /// With --between: the distance from one moment to the next, like 1d
    #[arg(
        long,
        value_name = "DURATION",
        requires = "between",
        // A requirement alone is not looked at when another flag of its group is there.
        conflicts_with_all = ["entity_rows", "at", "spine"]
    )]
    pub(crate) every: Option<Ttl>,
    /// Where to write the training rows: .parquet, .csv or .arrow
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: PathBuf,
    /// `event`: what was true at each row's time; `available`: and had arrived by then
    #[arg(long, value_enum, default_value_t = Knowledge::Event)]
    pub(crate) knowledge: Knowledge,
    /// `at`: feature rows at or before each row's time; `before`: only strictly earlier ones
    #[arg(long, value_enum, default_value_t = Boundary::At)]
    pub(crate) boundary: Boundary,
    /// Name every feature column view__feature
    #[arg(long)]
    pub(crate) full_names: bool,
    /// The entity rows' time column [default: event_timestamp, else the only timestamp column]
    #[arg(long, value_name = "COLUMN")]
    pub(crate) timestamp_column: Option<String>,
    /// Say what was read of each view, what was left out, and where the time went
    #[arg(long)]
    pub(crate) explain: bool,
    /// Add a column `split`: train=0.8,test=0.2 by key, or train=2013-09-01,test by time
    #[arg(long, value_name = "PART=FRACTION|TIME,...")]
    pub(crate) split: Option<String>,
    /// The columns whose values decide a split by fractions [default: the join keys]
    #[arg(long, value_name = "COLUMN", value_delimiter = ',', num_args = 1.., requires = "split")]
    pub(crate) split_by: Option<Vec<ColumnName>>,
    /// Warn of values from after a row's time and of features that are mostly null; reads more of views with a ttl
    #[arg(long)]
    pub(crate) lint: bool,
    /// See the rows that a push has answered with this token for, or fail; give it again for more
    #[arg(long, value_name = "TOKEN")]
    pub(crate) after: Vec<WriteToken>,
    /// Save the dataset under this name: keep what is needed to make the same rows again
    #[arg(long, value_name = "NAME")]
    pub(crate) save: Option<DatasetName>,
}

/// `dataset`
#[derive(Debug, Subcommand)]
pub(crate) enum Dataset {
    /// Show how a saved dataset was made, by whom and when
    Show {
        /// The name
        name: DatasetName,
    },
    /// Make the rows of a saved dataset again, and check that they are the same
    Reproduce {
        /// The name
        name: DatasetName,
        /// Where to write the training rows: .parquet, .csv or .arrow
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        out: PathBuf,
    },
}

/// Which rows count as known.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Knowledge {
    /// Rows whose event time has come
    Event,
    /// And which had arrived
    Available,
}

/// Whether a row at exactly the moment counts.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Boundary {
    /// It does
    At,
    /// It does not
    Before,
}

/// `get-online`
#[derive(Debug, Args)]
pub(crate) struct GetOnline {
    #[command(flatten)]
    pub(crate) features: Features,
    /// The join keys of one entity; give it again for more entities
    #[arg(long = "entity", value_name = "KEY=VALUE[,KEY=VALUE]", required = true)]
    pub(crate) entities: Vec<String>,
    /// Name every feature view__feature
    #[arg(long)]
    pub(crate) full_names: bool,
    /// See the rows that a push has answered with this token for, or fail; give it again for more
    #[arg(long, value_name = "TOKEN")]
    pub(crate) after: Vec<WriteToken>,
}

/// The kinds of objects.
#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Entities
    #[value(alias = "entities")]
    Entity,
    /// Sources
    #[value(alias = "sources")]
    Source,
    /// Feature views
    #[value(aliases = ["feature-view", "feature_views", "feature-views", "view", "views"])]
    FeatureView,
    /// Feature services
    #[value(aliases = ["feature-service", "feature_services", "feature-services", "service", "services"])]
    FeatureService,
}

/// A size of memory. Less than what a join of few rows takes is refused, since nothing would ever end.
fn memory(text: &str) -> Result<NonZeroUsize, String> {
    let size: ByteSize = text
        .parse()
        .map_err(|_| "a size is a number of bytes, or one with KiB, MiB or GiB".to_owned())?;
    usize::try_from(size.as_u64())
        .ok()
        .and_then(NonZeroUsize::new)
        .filter(|bytes| bytes.get() >= LEAST_MEMORY)
        .ok_or_else(|| format!("at least {}", ByteSize(LEAST_MEMORY as u64)))
}

/// The size of a message: a request always has room, and one alone does not fill the memory.
fn message_size(text: &str) -> Result<usize, String> {
    let size: Option<ByteSize> = text.parse().ok();
    size.filter(|size| MESSAGE_SIZES.contains(&size.as_u64()))
        .and_then(|size| usize::try_from(size.as_u64()).ok())
        .ok_or_else(|| "a size from 64KiB to 1GiB, like 16MiB".to_owned())
}

fn registry_version(text: &str) -> Result<RegistryVersion, String> {
    match text.parse() {
        Ok(version) if version >= 1 => Ok(RegistryVersion(version)),
        _ => Err("a registry version is a number from 1; `vintner history` lists them".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
