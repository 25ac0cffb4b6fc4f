//! What tests are made of: naive oracles, the cases that are put to them, and real servers.
//!
//! Start at [`oracle`]: the point-in-time join and the online read as plain loops over all rows. [`grid`] draws small
//! cases in which times sit on each other's boundaries. [`history`] has what happens to an online store, and the map that it must
//! agree with. [`redis`] runs a real redis-server, [`s3`] a real S3 server.
//!
//! * Holds always: nothing here calls the code that decides visibility in the product; only its types are shared.
//! * Not here: assertions about one crate's internals; they stand beside the code.

pub mod grid;
pub mod history;
pub mod oracle;
pub mod redis;
pub mod s3;
