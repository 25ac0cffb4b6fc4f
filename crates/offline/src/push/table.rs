//! Appends pushes to a view's table: many of them in one commit.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use deltalake::kernel::{Action, StructType};
use tokio::task::JoinSet;
use vintner_core::{ProjectName, ViewId};
use vintner_registry::model::ViewRevision;

use crate::delta::{
    Arrangement, Change, Columns, DataFiles, DeltaError, Effect, OfflineStore, Origin, Table,
    TableState, ViewLayout, Waits, Written, checkpoint, checkpoint_when_due,
};

/// How often a commit is tried again because somebody else was first.
const ATTEMPTS: u32 = 8;
/// A log that nobody has summed up for so many versions is summed up when the table is opened.
const OPEN_CHECKPOINT: u64 = 20;
/// How many producers' places are remembered before the table is looked at again.
const MOST_PRODUCERS: usize = 100_000;

/// Who pushes, and which of its pushes this is. The sequences of a producer ascend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Producer {
    /// The producer's name.
    pub name: String,
    /// The number of the push.
    pub sequence: u64,
}

/// One push.
#[derive(Clone, Copy, Debug)]
pub struct Push<'a> {
    /// Its rows, as [`super::checked_rows`] gives them.
    pub rows: &'a RecordBatch,
    /// Who pushes.
    pub producer: Option<&'a Producer>,
}

/// What became of pushes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// A version of the table that has all of them.
    pub version: u64,
    /// The version before it, when this one is the only one that was written since then as far as is known.
    pub after: Option<u64>,
    /// Per push whether it was written; one that was not had been written before.
    pub written: Vec<bool>,
}

/// A view's table, kept open by the one who pushes to it.
#[derive(Debug)]
pub struct PushTable {
    table: Table,
    view: ViewId,
    known: Option<Known>,
    checkpoints: JoinSet<()>,
}

/// What is known of the table without looking.
#[derive(Debug)]
struct Known {
    state: TableState,
    /// The newest version, whose columns are those of `state`.
    version: u64,
    /// How far producers have come, by application id.
    producers: HashMap<String, Option<i64>>,
    /// What the commits since `state` say of that.
    since: HashMap<String, i64>,
    is_checked: bool,
}

impl PushTable {
    /// The table of a view version. It need not exist; nothing is read or written yet.
    ///
    /// # Errors
    /// [`DeltaError::Location`].
    pub fn of(
        store: &OfflineStore,
        project: &ProjectName,
        view: &ViewId,
    ) -> Result<Self, DeltaError> {
        Ok(Self {
            table: store.table(project, view)?,
            view: view.clone(),
            known: None,
            checkpoints: JoinSet::new(),
        })
    }

    /// Appends the pushes that are not in the table yet, in one commit. All of their rows must have the layout of `view`.
    ///
    /// # Errors
    /// [`DeltaError`]; then none of them was written by this call, or, when the answer of a store was lost, all may have
    /// been.
    pub async fn append(
        &mut self,
        view: &ViewRevision,
        pushes: &[Push<'_>],
    ) -> Result<Appended, DeltaError> {
        let mut waits = Waits::new(ATTEMPTS - 1);
        loop {
            let appended = self.attempt(view, pushes).await;
            if appended.is_err() {
                self.known = None;
            }
            match appended {
                Err(error) if error.is_conflict() && waits.next().await => {
                    tracing::debug!(view = %self.view, "another writer was first; pushing again");
                }
                other => return other,
            }
        }
    }

    async fn attempt(
        &mut self,
        view: &ViewRevision,
        pushes: &[Push<'_>],
    ) -> Result<Appended, DeltaError> {
        self.look().await?;
        let (written, producers) = self.new_ones(pushes).await?;
        let layout = ViewLayout::of(view);
        let wanted = layout.delta()?;
        let known = self.known.as_mut();
        let Some(version) = known.as_ref().map(|known| known.version) else {
            return self
                .create(&layout, wanted, pushes, written, producers)
                .await;
        };
        if !written.contains(&true) {
            let after = None;
            return Ok(Appended {
                version,
                after,
                written,
            });
        }
        let Some(known) = known else {
            return Err(self.table.write_error("its state was lost"));
        };
        known.state.check_types(&layout)?;
        let (schema, columns) = widened(&known.state.columns(), &wanted)?;
        let files = write(&self.table, &layout, &schema, pushes, &written).await?;
        let is_wider = columns != Columns::Same;
        let change = change(files, columns, producers.clone());
        let mut followed = 0;
        let since = &mut known.since;
        let mut follow = |actions: &[Action]| {
            followed += 1;
            for action in actions {
                if let Action::Txn(txn) = action {
                    since.insert(txn.app_id.clone(), txn.version);
                }
            }
        };
        let state = known.state.clone();
        let commit = change.commit_from(&self.table, Some(&state), version + 1, &mut follow);
        let new_version = commit.await?;
        known.since.extend(producers);
        known.version = new_version;
        known.is_checked = false;
        if is_wider || known.since.len() > MOST_PRODUCERS {
            self.known = None;
        }
        self.sum_up(new_version);
        Ok(Appended {
            version: new_version,
            after: (followed == 0).then_some(version),
            written,
        })
    }

    /// The first version of the table.
    async fn create(
        &mut self,
        layout: &ViewLayout,
        columns: StructType,
        pushes: &[Push<'_>],
        written: Vec<bool>,
        producers: Vec<(String, i64)>,
    ) -> Result<Appended, DeltaError> {
        let files = write(&self.table, layout, &columns, pushes, &written).await?;
        let change = change(files, Columns::New(columns), producers);
        let version = change.commit(&self.table, None).await?;
        Ok(Appended {
            version,
            after: None,
            written,
        })
    }

    /// Makes sure that what is known is so.
    async fn look(&mut self) -> Result<(), DeltaError> {
        if let Some(known) = &mut self.known {
            // A version that has gone is a table that was taken away; the next one must not be written on top of nothing.
            if known.is_checked || self.table.has_version(known.version).await? {
                known.is_checked = true;
                return Ok(());
            }
            self.known = None;
        }
        let Some(state) = self.table.newest().await? else {
            return Ok(());
        };
        let version = state.version();
        let summed_up = self.table.last_checkpoint().await.unwrap_or(0);
        if version.saturating_sub(summed_up) >= OPEN_CHECKPOINT {
            checkpoint(&self.table, version).await;
        }
        self.known = Some(Known {
            version,
            state,
            producers: HashMap::new(),
            since: HashMap::new(),
            is_checked: true,
        });
        Ok(())
    }

    /// Which pushes are not in the table, and how far the producers will have come with them.
    async fn new_ones(
        &mut self,
        pushes: &[Push<'_>],
    ) -> Result<(Vec<bool>, Vec<(String, i64)>), DeltaError> {
        let mut places: Vec<(String, i64)> = Vec::new();
        let mut written = Vec::with_capacity(pushes.len());
        for push in pushes {
            let Some(producer) = push.producer else {
                written.push(true);
                continue;
            };
            let id = format!("{}/producer/{}", self.table.application(), producer.name);
            let sequence = i64::try_from(producer.sequence).unwrap_or(i64::MAX);
            let here = places.iter_mut().find(|(other, _)| *other == id);
            let last = match &here {
                Some((_, last)) => Some(*last),
                None => self.place(&id).await?,
            };
            let is_new = last.is_none_or(|last| last < sequence);
            written.push(is_new);
            match here {
                _ if !is_new => {}
                Some((_, last)) => *last = sequence,
                None => places.push((id, sequence)),
            }
        }
        Ok((written, places))
    }

    /// How far a producer has come.
    async fn place(&mut self, id: &str) -> Result<Option<i64>, DeltaError> {
        let Some(known) = &mut self.known else {
            return Ok(None);
        };
        if let Some(place) = known.since.get(id) {
            return Ok(Some(*place));
        }
        if let Some(place) = known.producers.get(id) {
            return Ok(*place);
        }
        let place = known.state.application_version(id).await?;
        if known.producers.len() >= MOST_PRODUCERS {
            known.producers.clear();
        }
        known.producers.insert(id.to_owned(), place);
        Ok(place)
    }

    /// Sums up the log now and then, beside the pushes that follow.
    fn sum_up(&mut self, version: u64) {
        while self.checkpoints.try_join_next().is_some() {}
        if self.checkpoints.is_empty() {
            let table = self.table.clone();
            self.checkpoints.spawn(async move {
                checkpoint_when_due(&table, version).await;
            });
        }
    }
}

fn change(written: Written, columns: Columns, producers: Vec<(String, i64)>) -> Change {
    Change {
        written,
        removes: Vec::new(),
        columns,
        effect: Effect::Pushes,
        producers,
        info: Vec::new(),
    }
}

/// The columns of the table with those that rows of the view have besides. A run computes the history of these.
fn widened(found: &StructType, wanted: &StructType) -> Result<(StructType, Columns), DeltaError> {
    let missing: Vec<_> = wanted
        .fields()
        .filter(|field| found.field(field.name()).is_none())
        .collect();
    if missing.is_empty() {
        return Ok((found.clone(), Columns::Same));
    }
    let fields = found.fields().chain(missing).cloned();
    let wider = StructType::try_new(fields).map_err(|e| DeltaError::Columns {
        source: Box::new(e),
    })?;
    Ok((wider.clone(), Columns::New(wider)))
}

/// Writes the rows that are new into files.
async fn write(
    table: &Table,
    layout: &ViewLayout,
    schema: &StructType,
    pushes: &[Push<'_>],
    written: &[bool],
) -> Result<Written, DeltaError> {
    let statistics = layout.statistics_columns();
    let mut files = DataFiles::new(
        table,
        schema,
        statistics,
        Origin::Push,
        Arrangement::AsTheyCome,
    );
    for (push, _) in pushes.iter().zip(written).filter(|(_, is_new)| **is_new) {
        if let Err(error) = files.write(0, push.rows).await {
            files.abandon().await;
            return Err(error);
        }
    }
    files.finish().await
}
