//! Materialization runs.

use vintner_ops::api::{
    EntitiesDeleted, MaterializeEvent, MaterializeRequest, Phase, Run, Scope, ViewRun, Work,
};
use vintner_proto::{convert::ConvertError, v1};

use super::{Travels, chosen, from_each, instant, missing, parse_each, required, texts, to_each};

impl Travels for MaterializeRequest {
    type Message = v1::MaterializeRequest;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::MaterializeRequest {
            views: texts(&self.views),
            window: self.window.map(|(start, end)| v1::TimeWindow {
                start: start.micros(),
                end: end.micros(),
            }),
            scope: match self.scope {
                Scope::Incremental => v1::MaterializeScope::Incremental,
                Scope::FullRefresh => v1::MaterializeScope::FullRefresh,
                Scope::OnlineOnly => v1::MaterializeScope::OnlineOnly,
            }
            .into(),
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            views: parse_each("views", &message.views)?,
            window: message
                .window
                .map(|window| (instant(window.start), instant(window.end))),
            scope: match chosen("scope", message.scope)? {
                None
                | Some(v1::MaterializeScope::Unspecified | v1::MaterializeScope::Incremental) => {
                    Scope::Incremental
                }
                Some(v1::MaterializeScope::FullRefresh) => Scope::FullRefresh,
                Some(v1::MaterializeScope::OnlineOnly) => Scope::OnlineOnly,
            },
        })
    }
}

impl Travels for ViewRun {
    type Message = v1::ViewRun;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::ViewRun {
            view: Some(self.view.into_message()?),
            plan: self.plan,
            rows_read: self.rows_read,
            rows_written: self.rows_written,
            rows_left_out: self.rows_left_out,
            online_written: self.online_written,
            online_kept: self.online_kept,
            online_held_back: self.online_held_back,
            offline_micros: self.offline_micros,
            online_micros: self.online_micros,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            view: required("view", message.view)?,
            plan: message.plan,
            rows_read: message.rows_read,
            rows_written: message.rows_written,
            rows_left_out: message.rows_left_out,
            online_written: message.online_written,
            online_kept: message.online_kept,
            online_held_back: message.online_held_back,
            offline_micros: message.offline_micros,
            online_micros: message.online_micros,
        })
    }
}

impl Travels for EntitiesDeleted {
    type Message = v1::EntitiesDeleted;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::EntitiesDeleted {
            view: Some(self.view.into_message()?),
            author: self.author,
            entities: self.entities,
            found: self.found,
            rows: self.rows,
            online_rows: self.online_rows,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            view: required("view", message.view)?,
            author: message.author,
            entities: message.entities,
            found: message.found,
            rows: message.rows,
            online_rows: message.online_rows,
        })
    }
}

impl Travels for Run {
    type Message = v1::Run;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::Run {
            id: self.id,
            work: Some(match self.work {
                Work::Materialized(run) => v1::run::Work::ViewRun(run.into_message()?),
                Work::Deleted(deleted) => v1::run::Work::Deleted(deleted.into_message()?),
            }),
            started_at: self.started_at.micros(),
            finished_at: self.finished_at.micros(),
            error: self.error,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            id: message.id,
            work: match message.work.ok_or_else(|| missing("work"))? {
                v1::run::Work::ViewRun(run) => Work::Materialized(ViewRun::from_message(run)?),
                v1::run::Work::Deleted(deleted) => {
                    Work::Deleted(EntitiesDeleted::from_message(deleted)?)
                }
            },
            started_at: instant(message.started_at),
            finished_at: instant(message.finished_at),
            error: message.error,
        })
    }
}

/// One message of a materialization's stream: a step, or the end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// A step.
    Event(MaterializeEvent),
    /// All runs are over.
    Done(Vec<ViewRun>),
}

impl Travels for Step {
    type Message = v1::MaterializeResponse;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        use v1::materialize_response::Event;
        let event = match self {
            Self::Event(MaterializeEvent::Started { view, plan }) => {
                Event::Started(v1::ViewRunStarted {
                    view: Some(view.into_message()?),
                    plan,
                })
            }
            Self::Event(MaterializeEvent::Progress { view, phase, rows }) => {
                Event::Progress(v1::ViewRunProgress {
                    view: Some(view.into_message()?),
                    phase: match phase {
                        Phase::Offline => v1::MaterializePhase::Offline,
                        Phase::Online => v1::MaterializePhase::Online,
                    }
                    .into(),
                    rows,
                })
            }
            Self::Event(MaterializeEvent::Finished(run)) => Event::Finished(run.into_message()?),
            Self::Done(runs) => Event::Done(v1::MaterializeDone {
                runs: to_each(runs)?,
            }),
        };
        Ok(v1::MaterializeResponse { event: Some(event) })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        use v1::materialize_response::Event;
        Ok(match message.event.ok_or_else(|| missing("event"))? {
            Event::Started(started) => Self::Event(MaterializeEvent::Started {
                view: required("view", started.view)?,
                plan: started.plan,
            }),
            Event::Progress(progress) => Self::Event(MaterializeEvent::Progress {
                view: required("view", progress.view)?,
                phase: match chosen("phase", progress.phase)? {
                    None | Some(v1::MaterializePhase::Unspecified) => {
                        return Err(missing("phase"));
                    }
                    Some(v1::MaterializePhase::Offline) => Phase::Offline,
                    Some(v1::MaterializePhase::Online) => Phase::Online,
                },
                rows: progress.rows,
            }),
            Event::Finished(run) => {
                Self::Event(MaterializeEvent::Finished(ViewRun::from_message(run)?))
            }
            Event::Done(done) => Self::Done(from_each("runs", done.runs)?),
        })
    }
}
