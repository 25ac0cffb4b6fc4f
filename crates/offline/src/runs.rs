//! stub
use vintner_core::*;
pub struct Runs;
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord { pub id: String, pub project: ProjectName, pub view: ViewId, pub plan: String, pub rows_read: u64, pub rows_written: u64, pub rows_left_out: u64, pub online_written: u64, pub online_kept: u64, pub online_held_back: u64, pub offline_micros: u64, pub online_micros: u64, pub started_at: Timestamp, pub finished_at: Timestamp, pub error: String }
impl Runs { pub fn new(_: &crate::delta::OfflineStore) -> Self { Self }
 pub async fn record(&self, _: &RunRecord) -> Result<(), crate::delta::DeltaError> { Ok(()) }
 pub async fn list(&self, _: &ProjectName, _: Option<&ViewName>, _: usize) -> Result<Vec<RunRecord>, crate::delta::DeltaError> { Ok(vec![]) } }
