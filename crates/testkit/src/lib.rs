//! What tests share: generators, the naive oracle, and real servers. A development dependency only.

pub mod redis;
