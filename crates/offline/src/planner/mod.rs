//! Plans.
pub mod session;
