//! Bars on a terminal while a run or a join goes on; nothing in a pipe. indicatif draws on stderr, and only on a
//! terminal.

use std::{
    collections::HashMap,
    fmt::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::{HumanFloatCount, MultiProgress, ProgressBar, ProgressState, ProgressStyle};
use vintner_core::ViewId;
use vintner_ops::api::{EntityRows, KeysSeen, MaterializeEvent, Phase};

use crate::output;

/// One line per view that is being materialized.
pub(crate) struct Bars {
    all: MultiProgress,
    views: Mutex<HashMap<ViewId, ProgressBar>>,
}

impl Bars {
    pub(crate) fn new() -> Self {
        Self {
            all: MultiProgress::new(),
            views: Mutex::default(),
        }
    }

    /// Shows an event.
    pub(crate) fn event(&self, event: &MaterializeEvent) {
        let Ok(mut views) = self.views.lock() else {
            return;
        };
        match event {
            MaterializeEvent::Started { view, plan } => {
                let bar = spinner(RUN);
                let bar = self.all.add(bar);
                bar.set_prefix(view.to_string());
                bar.set_message(plan.clone());
                views.insert(view.clone(), bar);
            }
            MaterializeEvent::Progress { view, phase, rows } => {
                if let Some(bar) = views.get(view) {
                    bar.set_position(*rows);
                    bar.set_message(match phase {
                        Phase::Offline => "to the offline store",
                        Phase::Online => "to the online store",
                    });
                }
            }
            MaterializeEvent::Finished(run) => {
                if let Some(bar) = views.remove(&run.view) {
                    bar.finish_and_clear();
                }
            }
        }
    }
}

/// One line per view whose entities are gone through.
pub(crate) struct KeyBars {
    what: &'static str,
    all: MultiProgress,
    views: Mutex<HashMap<ViewId, ProgressBar>>,
}

impl KeyBars {
    /// `what` is done with the entities, in a word or two.
    pub(crate) fn new(what: &'static str) -> Self {
        Self {
            what,
            all: MultiProgress::new(),
            views: Mutex::default(),
        }
    }

    /// Shows how far it has come.
    pub(crate) fn seen(&self, seen: &KeysSeen) {
        let Ok(mut views) = self.views.lock() else {
            return;
        };
        let bar = views.entry(seen.view.clone()).or_insert_with(|| {
            let bar = self.all.add(spinner(KEYS));
            bar.set_prefix(seen.view.to_string());
            bar.set_message(self.what);
            bar
        });
        bar.set_position(seen.keys);
    }

    /// Takes the lines away.
    pub(crate) fn finish(&self) {
        // Nothing can be done about lines that stay.
        let _ = self.all.clear();
    }
}

/// How a line looks: rows to the stores, entity rows that are read, their join, rows that are written.
const RUN: &str = "{spinner} {prefix} {human_pos} rows, {rate} {wide_msg}";
const KEYS: &str = "{spinner} {prefix} {human_pos} entities {msg}, {rate}";
const READ: &str = "{spinner} {prefix} {human_pos}{msg} entity rows";
const JOINED: &str = "{spinner} {prefix}";
const WRITTEN: &str = "{spinner} {prefix} {human_pos}{msg} rows, {rate}";

/// One line for training rows: first the entity rows that have been read, then the rows that have been written.
#[derive(Clone)]
pub(crate) struct RowsProgress {
    bar: ProgressBar,
    /// The result has as many rows as there are entity rows.
    total: Option<u64>,
    written: Arc<AtomicU64>,
}

impl RowsProgress {
    /// For so many rows, if that is known.
    pub(crate) fn new(total: Option<u64>) -> Self {
        let bar = spinner(JOINED);
        bar.set_prefix("joining");
        Self {
            bar,
            total,
            written: Arc::default(),
        }
    }

    /// The same entity rows, which are counted as they are taken.
    pub(crate) fn reading(&self, rows: EntityRows) -> EntityRows {
        let (progress, mut read) = (self.clone(), 0);
        let batches = rows.batches.inspect_ok(move |batch| {
            read += batch.num_rows() as u64;
            progress.read(read);
        });
        let progress = self.clone();
        let ended = stream::once(async move {
            progress.joining();
            None
        });
        EntityRows {
            schema: rows.schema,
            batches: batches
                .map(Some)
                .chain(ended)
                .filter_map(std::future::ready)
                .boxed(),
        }
    }

    /// What is to be told how many rows have been written each time.
    pub(crate) fn writing(&self) -> impl Fn(usize) + Send + use<> {
        let progress = self.clone();
        move |rows| progress.wrote(rows as u64)
    }

    /// Takes the line away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// A join in chunks reads on after it has begun to write; the line does not go back.
    fn is_reading(&self) -> bool {
        self.written.load(Ordering::Relaxed) == 0
    }

    fn read(&self, rows: u64) {
        if self.is_reading() {
            if self.bar.position() == 0 {
                self.bar.set_style(style(READ));
                self.say("read");
            }
            self.bar.set_position(rows);
        }
    }

    fn joining(&self) {
        if self.is_reading() {
            self.bar.set_style(style(JOINED));
            self.bar.set_prefix("joining");
        }
    }

    fn wrote(&self, rows: u64) {
        if self.is_reading() {
            // The rate is that of writing from here on.
            self.bar.reset();
            self.bar.set_style(style(WRITTEN));
            self.say("wrote");
        }
        self.written.fetch_add(rows, Ordering::Relaxed);
        self.bar.inc(rows);
    }

    fn say(&self, what: &'static str) {
        self.bar.set_prefix(what);
        if let Some(total) = self.total {
            self.bar
                .set_message(format!(" of {}", output::count(total)));
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_spinner());
    style.with_key("rate", |state: &ProgressState, line: &mut dyn Write| {
        // Nothing can be done about a line that is not drawn.
        let _ = write!(line, "{}/s", HumanFloatCount(state.per_sec().round()));
    })
}

/// A line that counts rows.
fn spinner(template: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.set_style(style(template));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// The line of a push.
pub(crate) struct PushProgress(ProgressBar);

impl PushProgress {
    pub(crate) fn new() -> Self {
        let bar = spinner(JOINED);
        bar.set_prefix("checking");
        Self(bar)
    }

    /// So many rows are written, of so many.
    pub(crate) fn rows(&self, done: u64, of: u64) {
        self.0.set_prefix("pushed");
        self.0.set_message(format!(" of {}", output::count(of)));
        self.0.set_position(done);
    }

    /// Takes the line away.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::{
        array::{ArrayRef, Int64Array, RecordBatch},
        datatypes::Schema,
    };

    fn shown(progress: &RowsProgress) -> String {
        let bar = &progress.bar;
        match bar.prefix().as_str() {
            "joining" => "joining".to_owned(),
            prefix => format!("{prefix} {}{}", bar.position(), bar.message()),
        }
    }

    /// Two batches of three rows.
    fn entity_rows() -> EntityRows {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
        EntityRows {
            schema: Arc::new(Schema::empty()),
            batches: stream::iter([Ok(batch.clone()), Ok(batch)]).boxed(),
        }
    }

    #[tokio::test]
    async fn rows_are_counted_as_they_are_read_and_then_as_they_are_written() {
        let progress = RowsProgress::new(Some(6_000));
        let (mut rows, write) = (progress.reading(entity_rows()).batches, progress.writing());
        let mut lines = vec![shown(&progress)];
        while let Some(batch) = rows.next().await {
            batch.unwrap();
            lines.push(shown(&progress));
        }
        lines.push(shown(&progress));
        write(2);
        lines.push(shown(&progress));
        progress.finish();
        let want = [
            "joining",
            "read 3 of 6,000",
            "read 6 of 6,000",
            "joining",
            "wrote 2 of 6,000",
        ];
        assert_eq!(lines, want);
    }

    #[tokio::test]
    async fn a_join_in_chunks_does_not_go_back_to_reading() {
        let progress = RowsProgress::new(None);
        let (mut rows, write) = (progress.reading(entity_rows()).batches, progress.writing());
        let mut lines = Vec::new();
        while let Some(batch) = rows.next().await {
            lines.push(shown(&progress));
            write(batch.unwrap().num_rows());
        }
        lines.push(shown(&progress));
        progress.finish();
        assert_eq!(lines, ["read 3", "wrote 3", "wrote 6"]);
    }
}
