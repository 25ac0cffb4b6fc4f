//! Vintner through its public doors: the real binary, gRPC, Flight, and readers that are not ours.

mod bad_input;
mod foreign_readers;
mod harness;
mod kill;
mod main_job;
mod transports;
