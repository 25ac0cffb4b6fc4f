//! What a run was asked to do.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use vintner_core::{Timestamp, ViewName};

/// Which views to materialize.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ViewSelection {
    /// All of them.
    #[default]
    All,
    /// These.
    Some(BTreeSet<ViewName>),
}

impl ViewSelection {
    /// Whether a view is among them.
    pub fn contains(&self, view: &ViewName) -> bool {
        match self {
            Self::All => true,
            Self::Some(views) => views.contains(view),
        }
    }
}

/// What a run was asked to do. Without a window and a full refresh it goes on from where the last run ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaterializeRequest {
    /// Which views.
    pub views: ViewSelection,
    /// The first event time to recompute. Without it, with an `end`, views with windows go on from where they are,
    /// and others recompute everything before `end`.
    pub start: Option<Timestamp>,
    /// The event time to stop before. Without it, now for views with windows, and never for others.
    pub end: Option<Timestamp>,
    /// Whether to recompute everything, whatever has been read already.
    pub full_refresh: bool,
}

/// Why a request cannot be met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The end is not after the start.
    #[error("--start {start} is not before --end {end}")]
    Order {
        /// The start.
        start: Timestamp,
        /// The end.
        end: Timestamp,
    },
    /// The start has not come yet, and a view with windows is not computed for the future.
    #[error(
        "--start {start} is not before now, which is {now}; no window of the future is computed"
    )]
    Future {
        /// The start.
        start: Timestamp,
        /// The present.
        now: Timestamp,
    },
    /// Both a window and a full refresh.
    #[error("--full-refresh recomputes all time; leave out --start and --end, or --full-refresh")]
    FullRefreshWindow,
}

/// The event times from `start`, inclusive, to `end`, exclusive; without an end, all after `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EventWindow {
    /// The first event time inside.
    #[serde(with = "super::progress::micros")]
    pub start: Timestamp,
    /// The first event time after it.
    #[serde(
        with = "super::progress::optional_micros",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub end: Option<Timestamp>,
}

impl EventWindow {
    /// Whether an event time is inside.
    pub fn contains(&self, event: Timestamp) -> bool {
        self.start <= event && self.end.is_none_or(|end| event < end)
    }
}

impl fmt::Display for EventWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.start, self.end) {
            (Timestamp::MIN, None) => f.write_str("all time"),
            (Timestamp::MIN, Some(end)) => write!(f, "all time before {end}"),
            (start, None) => write!(f, "{start} and after"),
            (start, Some(end)) => write!(f, "{start} to before {end}"),
        }
    }
}

impl MaterializeRequest {
    /// The window that was asked for, as it is written.
    ///
    /// # Errors
    /// [`RequestError`] when it is empty, or comes with a full refresh.
    pub(super) fn window(&self) -> Result<Option<EventWindow>, RequestError> {
        if self.start.is_none() && self.end.is_none() {
            return Ok(None);
        }
        if self.full_refresh {
            return Err(RequestError::FullRefreshWindow);
        }
        let start = self.start.unwrap_or(Timestamp::MIN);
        match self.end {
            Some(end) if end <= start => Err(RequestError::Order { start, end }),
            end => Ok(Some(EventWindow { start, end })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_inside_and_the_end_is_not() {
        let at = Timestamp::from_micros;
        let window = EventWindow {
            start: at(1),
            end: Some(at(3)),
        };
        let inside: Vec<_> = (0..5).filter(|&t| window.contains(at(t))).collect();
        assert_eq!(inside, [1, 2]);
        let open = EventWindow {
            start: at(1),
            end: None,
        };
        assert!(open.contains(Timestamp::MAX));
    }

    #[test]
    fn a_window_has_its_start_before_its_end() {
        let at = |micros| Some(Timestamp::from_micros(micros));
        for (start, end, full_refresh, want) in [
            (None, None, false, Ok(false)),
            (None, None, true, Ok(false)),
            (at(1), at(2), false, Ok(true)),
            (at(1), None, false, Ok(true)),
            (None, at(1), false, Ok(true)),
            (at(2), at(2), false, Err("is not before --end")),
            (at(1), at(2), true, Err("leave out")),
        ] {
            let request = MaterializeRequest {
                start,
                end,
                full_refresh,
                ..Default::default()
            };
            match (request.window(), want) {
                (Ok(found), Ok(some)) => assert_eq!(found.is_some(), some),
                (Err(found), Err(text)) => assert!(found.to_string().contains(text), "{found}"),
                (found, want) => panic!("{start:?} {end:?}: {found:?}, not {want:?}"),
            }
        }
    }
}
