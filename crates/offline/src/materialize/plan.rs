//! What a run will do, and why: a plain value, worked out without reading or writing anything.

use std::{collections::BTreeMap, fmt};

use vintner_core::{SourceName, Timestamp, ViewId};
use vintner_registry::model::{Refresh, ViewRevision};

use super::{
    news::News,
    progress::{Progress, SourcePart, WindowRead, fingerprint},
    request::{EventWindow, MaterializeRequest, RequestError},
};
use crate::sources::{DeltaChange, SourceState};

/// What one run of one view does to its table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunPlan {
    /// The view.
    pub view: ViewId,
    /// What happens to the table.
    pub action: Action,
    /// Why, in words.
    pub reason: String,
    /// What will have been read. The rows themselves say the rest.
    pub(super) progress: Progress,
    /// Whether the rows from `end` on are the only ones missing afterwards.
    pub(super) settles: bool,
}

/// What happens to a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing, not even a commit.
    NothingNew,
    /// New files of the followed source are read and their rows added.
    AppendFiles(Vec<PartBatch>),
    /// All rows of a window of event time are recomputed and replaced.
    ReplaceWindow(EventWindow),
    /// All rows are recomputed and replaced, those at or after `before` left out.
    ReplaceAll {
        /// The event time to stop before.
        before: Option<Timestamp>,
    },
}

/// Files that are read together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartBatch {
    /// The files.
    pub parts: Vec<SourcePart>,
    /// Windows whose rows an earlier run has taken from these files.
    pub except: Vec<EventWindow>,
}

/// What the plan is made from, beside the view and the request.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The table, if there is one.
    pub table: Option<FoundTable>,
    /// What the view's sources hold.
    pub sources: BTreeMap<SourceName, SourceState>,
    /// What has happened to the followed source since the cursor, when it is a Delta table and there is a cursor.
    pub followed: Option<DeltaChange>,
}

/// What is known of the table.
#[derive(Clone, Debug)]
pub struct FoundTable {
    /// What was read for it, if the log says.
    pub progress: Option<Progress>,
    /// How its columns differ from the view's, in words.
    pub difference: Option<String>,
    /// Whether a run has written it. None has when there were only pushes, and deletions of what was pushed.
    pub had_runs: bool,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The request cannot be met.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A source of the view is not declared.
    #[error("the view {view} reads the source `{name}`, which is not declared")]
    NoSource {
        /// The view.
        view: ViewId,
        /// The source.
        name: SourceName,
    },
    /// All would have to be recomputed, but some of what the rows were made from is gone.
    #[error(
        "{reason}, so all rows of {view} must be recomputed; but {gone} of the files that were read from `{name}` \
         are gone (`{example}` for one), and their rows would be lost. Bring the files back, or accept the loss with \
         --full-refresh"
    )]
    FilesGone {
        /// The view.
        view: ViewId,
        /// Why all must be recomputed.
        reason: String,
        /// The source.
        name: SourceName,
        /// How many files are gone.
        gone: usize,
        /// One of them.
        example: String,
    },
}

/// Decides what a run of `view` does.
///
/// # Errors
/// [`PlanError`] when the request makes no sense, or when what it takes would lose rows.
pub fn plan_run(
    view: &ViewRevision,
    found: &Found,
    request: &MaterializeRequest,
    now: Timestamp,
) -> Result<RunPlan, PlanError> {
    let planner = Planner {
        view,
        found,
        progress: found.table.as_ref().and_then(|t| t.progress.clone()),
        now,
    };
    if let Some(name) = view
        .sources
        .iter()
        .find(|s| !found.sources.contains_key(*s))
    {
        return Err(PlanError::NoSource {
            view: view.id.clone(),
            name: name.clone(),
        });
    }
    let window = request.window()?;
    match &view.refresh {
        Refresh::RowLocal { source } => planner.row_local(source, window, request.full_refresh),
        Refresh::Static { .. } => planner.unchanging(request.full_refresh),
        Refresh::Windowed => planner.windowed(request, request.full_refresh),
    }
}

struct Planner<'a> {
    view: &'a ViewRevision,
    found: &'a Found,
    progress: Option<Progress>,
    now: Timestamp,
}

impl Planner<'_> {
    /// Every row comes from one row of `source`: what is new there is appended.
    fn row_local(
        &self,
        source: &SourceName,
        window: Option<EventWindow>,
        full_refresh: bool,
    ) -> Result<RunPlan, PlanError> {
        let news = self.news(source);
        let all = |reason: String| {
            let mut progress = self.up_to_date(Some(source));
            progress.cursor = self.found.sources.get(source).cloned();
            self.plan(Action::ReplaceAll { before: None }, reason, progress)
        };
        // Recomputing everything loses the rows of files that are gone, so it takes more than a reason to do it.
        let all_if_all_there = |reason: String| match news.gone.first() {
            None => Ok(all(reason)),
            Some(example) => Err(PlanError::FilesGone {
                view: self.view.id.clone(),
                reason,
                name: source.clone(),
                gone: news.gone.len(),
                example: example.clone(),
            }),
        };
        if full_refresh {
            return Ok(all("--full-refresh was given".to_owned()));
        }
        if let Some(reason) = self.table_reason() {
            return all_if_all_there(reason);
        }
        let Some(progress) = &self.progress else {
            return Ok(match window {
                Some(window) => self.replace_parts(window, &news, self.up_to_date(Some(source))),
                None => all(self.first_reason()),
            });
        };
        if let Some(window) = window {
            return Ok(self.replace_parts(window, &news, progress.clone()));
        }
        if let Some(name) = self.changed_source(progress, Some(source)) {
            return all_if_all_there(format!(
                "the source `{name}`, which `{source}` is joined to, has changed"
            ));
        }
        if let Some(reason) = &news.rewritten {
            return all_if_all_there(reason.clone());
        }
        let reason = match news.added.len() {
            0 => {
                let reason = format!("nothing is new in `{source}`");
                return Ok(self.plan(Action::NothingNew, reason, progress.clone()));
            }
            1 => format!("`{source}` has a new file"),
            n => format!("`{source}` has {n} new files"),
        };
        let batches = batches(&news.added, &progress.windows);
        let mut next = progress.clone();
        next.cursor = self
            .found
            .sources
            .get(source)
            .map(|now| news.cursor_after(now));
        next.windows = still_open(&progress.windows, &news);
        Ok(self.plan(Action::AppendFiles(batches), reason, next))
    }

    /// A window that was asked for, from all files that there are.
    fn replace_parts(&self, window: EventWindow, news: &News, base: Progress) -> RunPlan {
        let reason = match news.gone.len() {
            0 => asked_for(),
            1 => format!(
                "{}; a file that was read is gone, and its rows go too",
                asked_for()
            ),
            n => format!(
                "{}; {n} files that were read are gone, and their rows go too",
                asked_for()
            ),
        };
        let mut progress = base;
        progress.windows.retain(|read| !covers(window, read.window));
        if !news.added.is_empty() {
            progress.windows.push(WindowRead {
                window,
                parts: news.added.clone(),
            });
        }
        self.plan(Action::ReplaceWindow(window), reason, progress)
    }

    /// Rows without time: replaced when the data has changed.
    fn unchanging(&self, full_refresh: bool) -> Result<RunPlan, PlanError> {
        let all = |reason| {
            let progress = self.up_to_date(None);
            self.plan(Action::ReplaceAll { before: None }, reason, progress)
        };
        if full_refresh {
            return Ok(all("--full-refresh was given".to_owned()));
        }
        if let Some(reason) = self.table_reason() {
            return Ok(all(reason));
        }
        let Some(progress) = &self.progress else {
            return Ok(all(self.first_reason()));
        };
        Ok(match self.changed_source(progress, None) {
            Some(name) => all(format!("the source `{name}` has changed")),
            None => {
                let reason = "its data has not changed".to_owned();
                self.plan(Action::NothingNew, reason, progress.clone())
            }
        })
    }

    /// Rows depend on many rows: a window is recomputed, from the last event time less the lookback.
    fn windowed(
        &self,
        request: &MaterializeRequest,
        full_refresh: bool,
    ) -> Result<RunPlan, PlanError> {
        let end = request.end.map_or(self.now, |end| end.min(self.now));
        if let Some(start) = request.start.filter(|start| *start >= end) {
            let now = self.now;
            return Err(RequestError::Future { start, now }.into());
        }
        let all = |reason: String| {
            let mut progress = self.up_to_date(None);
            progress.end = Some(end);
            let action = Action::ReplaceAll { before: Some(end) };
            RunPlan {
                settles: true,
                ..self.plan(action, reason, progress)
            }
        };
        if full_refresh {
            return Ok(all("--full-refresh was given".to_owned()));
        }
        if let Some(reason) = self.table_reason() {
            return Ok(all(reason));
        }
        if let Some(start) = request.start {
            let window = EventWindow {
                start,
                end: Some(end),
            };
            let progress = self.progress.clone();
            let progress = progress.unwrap_or_else(|| Progress::none(self.view));
            return Ok(self.plan(Action::ReplaceWindow(window), asked_for(), progress));
        }
        let Some(progress) = &self.progress else {
            return Ok(all(self.first_reason()));
        };
        let Some(last) = progress.last_event else {
            return Ok(match self.changed_source(progress, None) {
                None if !progress.held_back || Some(end) <= progress.end => self.plan(
                    Action::NothingNew,
                    self.unchanged_reason(),
                    progress.clone(),
                ),
                _ => all("no rows have been written yet".to_owned()),
            });
        };
        let reason = match self.changed_source(progress, None) {
            Some(name) => format!("the source `{name}` has changed"),
            None if progress.held_back && Some(end) > progress.end => {
                "there are rows whose time has come since the last run".to_owned()
            }
            None => {
                return Ok(self.plan(
                    Action::NothingNew,
                    self.unchanged_reason(),
                    progress.clone(),
                ));
            }
        };
        let start = self
            .view
            .lookback
            .map_or(last, |back| last.saturating_sub(back));
        if start >= end {
            let reason =
                format!("{reason}, but the table ends at {last}, which is not before {end}");
            return Ok(self.plan(Action::NothingNew, reason, progress.clone()));
        }
        let window = EventWindow {
            start,
            end: Some(end),
        };
        // A run that ends earlier than one before it leaves later rows as they are, so it is not up to date with
        // the sources.
        let settles = Some(end) >= progress.end;
        let mut next = progress.clone();
        if settles {
            next.others = self.up_to_date(None).others;
            next.end = Some(end);
        }
        let reason = match self.view.lookback {
            Some(back) => format!("{reason}; recomputed from {back} before the last event time"),
            None => format!("{reason}; recomputed from the last event time"),
        };
        Ok(RunPlan {
            settles,
            ..self.plan(Action::ReplaceWindow(window), reason, next)
        })
    }

    fn plan(&self, action: Action, reason: String, progress: Progress) -> RunPlan {
        RunPlan {
            view: self.view.id.clone(),
            action,
            reason,
            progress,
            settles: false,
        }
    }

    /// Why the table as it is cannot be gone on with.
    fn table_reason(&self) -> Option<String> {
        let table = self.found.table.as_ref()?;
        if let Some(difference) = &table.difference {
            return Some(difference.clone());
        }
        match &table.progress {
            None if !table.had_runs => None,
            None => Some("the table's log no longer says what was read".to_owned()),
            Some(progress) if !progress.has_times_of(self.view) => {
                Some("the rows' times are taken from other columns now".to_owned())
            }
            Some(_) => None,
        }
    }

    fn first_reason(&self) -> String {
        "first run".to_owned()
    }

    fn unchanged_reason(&self) -> String {
        "its sources have not changed".to_owned()
    }

    /// A record that says that the table is up to date with all sources but `followed`.
    fn up_to_date(&self, followed: Option<&SourceName>) -> Progress {
        let mut progress = Progress::none(self.view);
        let others = self.others(followed);
        progress.others = others
            .map(|(name, state)| (name.to_string(), fingerprint(state)))
            .collect();
        progress
    }

    /// A source other than `followed` that does not hold what it held.
    fn changed_source(
        &self,
        progress: &Progress,
        followed: Option<&SourceName>,
    ) -> Option<&SourceName> {
        self.others(followed)
            .find(|(name, state)| !progress.is_current(name, state))
            .map(|(name, _)| name)
    }

    fn others(
        &self,
        followed: Option<&SourceName>,
    ) -> impl Iterator<Item = (&SourceName, &SourceState)> {
        let names = self.view.sources.iter();
        names
            .filter(move |name| Some(*name) != followed)
            .filter_map(|name| self.found.sources.get_key_value(name))
    }

    fn news(&self, source: &SourceName) -> News {
        let cursor = self.progress.as_ref().and_then(|p| p.cursor.as_ref());
        let windows = self.progress.as_ref().map_or(&[][..], |p| &p.windows);
        match self.found.sources.get(source) {
            Some(now) => News::since(source, cursor, windows, now, self.found.followed.as_ref()),
            None => News::default(),
        }
    }
}

fn asked_for() -> String {
    "a window was asked for".to_owned()
}

/// Files by the windows that have been taken from them, files of the same windows together.
fn batches(added: &[SourcePart], windows: &[WindowRead]) -> Vec<PartBatch> {
    let mut batches: Vec<PartBatch> = Vec::new();
    for part in added {
        let taken = windows
            .iter()
            .filter(|w| w.parts.iter().any(|p| p.is(part)));
        let except: Vec<_> = taken.map(|w| w.window).collect();
        match batches.iter_mut().find(|batch| batch.except == except) {
            Some(batch) => batch.parts.push(part.clone()),
            None => batches.push(PartBatch {
                parts: vec![part.clone()],
                except,
            }),
        }
    }
    batches
}

/// The windows with files that are still not in the cursor once the new files are.
fn still_open(windows: &[WindowRead], news: &News) -> Vec<WindowRead> {
    let open = windows.iter().map(|read| WindowRead {
        window: read.window,
        parts: read
            .parts
            .iter()
            .filter(|part| !news.added.iter().any(|new| new.is(part)))
            .cloned()
            .collect(),
    });
    open.filter(|read| !read.parts.is_empty()).collect()
}

/// Whether all of `inner` is inside `outer`.
fn covers(outer: EventWindow, inner: EventWindow) -> bool {
    let ends = match (outer.end, inner.end) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(outer), Some(inner)) => inner <= outer,
    };
    outer.start <= inner.start && ends
}

impl Action {
    /// One word for records and tables.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NothingNew => "nothing_new",
            Self::AppendFiles(_) => "append",
            Self::ReplaceWindow(_) => "replace_window",
            Self::ReplaceAll { .. } => "replace_all",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingNew => f.write_str("nothing to do"),
            Self::AppendFiles(batches) => {
                let files: usize = batches.iter().map(|batch| batch.parts.len()).sum();
                let plural = if files == 1 { "" } else { "s" };
                write!(f, "append the rows of {files} file{plural}")?;
                let windows: Vec<_> = batches.iter().flat_map(|b| &b.except).collect();
                match windows.first() {
                    Some(window) => write!(f, " that were not written for the window {window}"),
                    None => Ok(()),
                }
            }
            Self::ReplaceWindow(window) => write!(f, "replace the rows of {window}"),
            Self::ReplaceAll { before: None } => f.write_str("replace all rows"),
            Self::ReplaceAll { before: Some(end) } => {
                write!(f, "replace all rows, with those before {end}")
            }
        }
    }
}

/// One line: `weather@1: append the rows of 2 files, since …`.
impl fmt::Display for RunPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, since {}", self.view, self.action, self.reason)
    }
}
