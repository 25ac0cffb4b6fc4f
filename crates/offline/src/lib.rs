//! stub

pub mod historical;
pub mod join;
