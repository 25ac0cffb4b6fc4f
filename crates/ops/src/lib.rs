//! The one layer of operations under the command line, gRPC and Flight.
//!
//! Start at [`api::Operations`]: one method per command. [`Local`] does them on the stores of a deployment.
//! Transports parse a request, call one method, and write the answer in their own form.
//!
//! * Holds always: the same request gives the same answer through every transport.
//! * Not here: argument parsing, gRPC types, exit codes, tables.

pub mod api;
pub mod error;
pub mod files;
pub mod lint;
mod local;
pub mod meter;
pub mod push_file;
pub mod token;

pub use api::Operations;
pub use error::{Fault, OpsError};
pub use local::{Local, Readiness, check};
pub use meter::Meters;
