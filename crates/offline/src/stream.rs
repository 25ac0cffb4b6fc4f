//! The engine's types for rows as they come, for callers that hand rows in and take them out.
//!
//! Not here: anything of our own. This is the one door through which those above see the engine.

pub use datafusion::{
    common::DataFusionError, execution::SendableRecordBatchStream,
    physical_plan::stream::RecordBatchStreamAdapter, prelude::SessionContext,
};
