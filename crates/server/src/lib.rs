//! The service: one port for gRPC, Arrow Flight and what watches it, and the client for it.
//!
//! Start at [`server::Server`] and [`client::Client`]. Both stand around
//! [`Operations`](vintner_ops::Operations): the server answers calls with one, the client is one. [`command`] is what a
//! Flight client sends; `proto/vintner/v1` has the rest.
//!
//! * Holds always: a handler parses, calls one method and converts; it decides nothing. So the same request gives the
//!   same answer here as on the command line. `status` is the one place where errors get their codes.
//! * Units: sizes in bytes, times in microseconds UTC.
//! * Not here: what operations do (`vintner-ops`), authentication (there is none yet, so only loopback is served).

mod admission;
mod answer;
mod calls;
pub mod client;
pub mod command;
pub mod config;
mod convert;
mod dataset_service;
mod dispatch;
mod flight_data;
mod flight_service;
mod gathered;
mod guard;
mod http;
mod maintenance_service;
mod materialization_service;
mod metrics;
mod online_service;
mod push_service;
mod registry_service;
pub mod server;
mod status;
mod steps;
mod unary;

#[cfg(test)]
mod tests;

pub use calls::{Sampler, SamplerError};
pub use client::Client;
pub use config::{ServerConfig, Share, ShareError};
pub use server::{ServeError, Server, Stopped, serve};
pub use status::{CAUSE_KEY, FAULT_KEY};
