//! The servers that rows are read from, for the near cache, which has them tell what changes.

use futures::future::try_join_all;

use super::{errors::Failure, servers::Servers};
use crate::near_cache::TrackedServer;

/// The servers as the connections that read rows reach them, always in the same order. When one of them cannot be
/// reached, or is no primary any more, they are looked for anew.
pub(super) async fn servers(servers: &Servers) -> Result<Vec<TrackedServer>, Failure> {
    let known = servers.readers().await?;
    let told = match try_join_all(known.iter().map(|server| server.tracked())).await {
        Err(failure) if failure.is_lost() => {
            let found = servers.primaries().await?;
            try_join_all(found.iter().map(|server| server.tracked())).await
        }
        told => told,
    };
    let mut told = told?;
    told.sort_by(|one, other| one.run_id.cmp(&other.run_id));
    Ok(told)
}
