//! stub

pub mod join;
