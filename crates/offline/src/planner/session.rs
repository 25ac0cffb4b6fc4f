//! How the batch engine is set up, in one place, for planning and for runs.
//!
//! * Identifiers are not folded: DataFusion looks names up exactly as written. Before that, [`super::names`] gives an
//!   unquoted name the spelling of the one column, table or alias that it equals but for case. So `SELECT Temp` finds
//!   the column `temp`, `"Temp"` does not, and `AS MeanDelay` stays `MeanDelay`.
//! * Times are UTC, whatever the machine says.
//! * Text is `Utf8`, never `Utf8View`, as [`vintner_core::FeatureType::arrow`] promises.

use std::{
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use datafusion::{
    error::DataFusionError,
    execution::{
        SessionStateBuilder,
        context::{SessionContext, SessionState},
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::{FairSpillPool, MemoryPool},
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    prelude::SessionConfig,
};

/// What the batch engine may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// How many partitions a plan runs in at once; without it, one per core.
    pub target_partitions: Option<NonZeroUsize>,
    /// How many bytes operators may hold before they spill to disk or fail; without it, no bound.
    pub memory_limit: Option<NonZeroUsize>,
    /// Where operators spill; without it, the system's folder for temporary files.
    pub spill_folder: Option<PathBuf>,
    /// Rows per batch. Larger batches cost memory, smaller ones time.
    pub batch_size: NonZeroUsize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            target_partitions: None,
            memory_limit: None,
            spill_folder: None,
            batch_size: NonZeroUsize::new(8192).unwrap_or(NonZeroUsize::MIN),
        }
    }
}

/// Memory that all joins and runs of a process share. What cannot spill takes from it what is left.
#[derive(Clone, Debug)]
pub struct SharedMemory(Arc<dyn MemoryPool>);

impl SharedMemory {
    /// So many bytes.
    pub fn of(bytes: NonZeroUsize) -> Self {
        Self(Arc::new(FairSpillPool::new(bytes.get())))
    }
}

/// A session for runs: it has the memory and the partitions of `config`, and the semantics of this module.
///
/// # Errors
/// When the spill folder cannot be used.
pub fn session(config: &EngineConfig) -> Result<SessionContext, DataFusionError> {
    let mut runtime = RuntimeEnvBuilder::new();
    if let Some(bytes) = config.memory_limit {
        runtime = runtime.with_memory_limit(bytes.get(), 1.0);
    }
    in_runtime(config, runtime)
}

/// A session that takes its memory from what the process has.
///
/// # Errors
/// When the spill folder cannot be used.
pub fn session_sharing(
    config: &EngineConfig,
    memory: &SharedMemory,
) -> Result<SessionContext, DataFusionError> {
    let pool = Arc::clone(&memory.0);
    in_runtime(config, RuntimeEnvBuilder::new().with_memory_pool(pool))
}

fn in_runtime(
    config: &EngineConfig,
    mut runtime: RuntimeEnvBuilder,
) -> Result<SessionContext, DataFusionError> {
    if let Some(folder) = &config.spill_folder {
        let mode = DiskManagerMode::Directories(vec![folder.clone()]);
        runtime = runtime.with_disk_manager_builder(DiskManagerBuilder::default().with_mode(mode));
    }
    let mut settings = settings().with_batch_size(config.batch_size.get());
    if let Some(partitions) = config.target_partitions {
        settings = settings.with_target_partitions(partitions.get());
    }
    Ok(SessionContext::new_with_state(state(
        settings,
        Arc::new(runtime.build()?),
    )))
}

/// The session that plans are made with. It runs nothing, so one serves the whole process.
pub(crate) fn planning() -> &'static SessionState {
    static PLANNING: LazyLock<SessionState> =
        LazyLock::new(|| state(settings(), Arc::new(RuntimeEnv::default())));
    &PLANNING
}

fn state(settings: SessionConfig, runtime: Arc<RuntimeEnv>) -> SessionState {
    SessionStateBuilder::new_with_default_features()
        .with_config(settings)
        .with_runtime_env(runtime)
        .build()
}

fn settings() -> SessionConfig {
    let mut settings = SessionConfig::new()
        .with_information_schema(false)
        .with_default_catalog_and_schema("vintner", "sources");
    let options = settings.options_mut();
    options.sql_parser.enable_ident_normalization = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.collect_spans = true;
    options.execution.time_zone = Some("UTC".to_owned());
    options.execution.parquet.schema_force_view_types = false;
    // Spark writes times as INT96, which has no unit of its own; read as nanoseconds it covers only 1677 to 2262.
    options.execution.parquet.coerce_int96 = Some("us".to_owned());
    settings
}
