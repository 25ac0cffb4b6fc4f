//! The servers that rows are read from, for the near cache, which has them tell what changes.

use futures::future::try_join_all;

use super::{errors::Failure, servers::Servers};
use crate::near_cache::TrackedServer;

/// The servers as the connections that read rows reach them, always in the same order. A cluster is asked each time which
/// they are: where a slot has gone would else be found out by a read that misses, and a near cache may have none.
pub(super) async fn servers(servers: &Servers) -> Result<Vec<TrackedServer>, Failure> {
    let primaries = servers.primaries().await?;
    let told = primaries.iter().map(|server| server.tracked());
    let mut told = try_join_all(told).await?;
    told.sort_by(|one, other| one.run_id.cmp(&other.run_id));
    Ok(told)
}
