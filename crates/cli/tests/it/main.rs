//! Vintner through its public doors: the real binary, gRPC, Flight, and readers that are not ours.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where something is not as it must be"
)]

mod bad_input;
mod care;
mod datasets;
mod delete;
mod explain;
mod faults;
mod foreign_readers;
mod harness;
mod histories;
mod interrupt;
mod kill;
mod kill_redis;
mod linting;
mod log;
mod main_job;
mod maintenance;
mod observability;
mod overload;
mod push;
mod s3;
mod spine;
mod stores;
mod swap;
mod together;
mod transports;
mod truth;
