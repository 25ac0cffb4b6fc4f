//! Which online requests are let in, so that a store that is slow for some does not take the service from all.
//!
//! Requests are counted in lanes, by what they select. A lane may have a share of all requests that are worked on, so one
//! feature service whose store does not answer leaves the others to the rest. Entities are counted over all
//! lanes, since they are what takes memory. What is not let in is refused at once, never queued: the caller knows
//! better than a queue whether to try again.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tonic::Status;
use vintner_core::meter::Count;
use vintner_proto::v1;

use crate::{config::Share, status};

/// Two selections share a lane when their hashes do. More lanes would only make that rarer.
const LANES: usize = 64;

/// Counts the online requests that are worked on.
pub(crate) struct Admission {
    lanes: [AtomicUsize; LANES],
    requests: AtomicUsize,
    entities: AtomicUsize,
    most_requests: usize,
    most_of_a_lane: usize,
    most_entities: usize,
    state: RandomState,
    refused: Refused,
}

/// Requests that were not let in, by what there was too much of.
#[derive(Default)]
struct Refused {
    requests: Count,
    selection: Count,
    entities: Count,
}

/// What is worked on at one moment.
pub(crate) struct InFlight {
    pub(crate) requests: usize,
    pub(crate) entities: usize,
    pub(crate) most_entities: usize,
}

/// A request that was let in, until it is dropped.
pub(crate) struct Admitted {
    admission: Arc<Admission>,
    lane: usize,
    entities: usize,
}

impl Admission {
    /// Lets in so many requests at one time, so much of them for one selection, and so many entities.
    pub(crate) fn new(most_requests: usize, of_a_selection: Share, most_entities: usize) -> Self {
        Self {
            lanes: [const { AtomicUsize::new(0) }; LANES],
            requests: AtomicUsize::new(0),
            entities: AtomicUsize::new(0),
            most_requests,
            most_of_a_lane: of_a_selection.of(most_requests),
            most_entities,
            state: RandomState::new(),
            refused: Refused::default(),
        }
    }

    /// Lets a request in, or says that there is too much to do.
    pub(crate) fn enter(
        self: &Arc<Self>,
        selection: &v1::FeatureSelection,
        entities: usize,
    ) -> Result<Admitted, Status> {
        let lane = usize::try_from(self.state.hash_one(selection) % LANES as u64).unwrap_or(0);
        // Dropping it takes back what was counted.
        let admitted = Admitted {
            admission: Arc::clone(self),
            lane,
            entities,
        };
        let of_lane = self.lane(lane).fetch_add(1, Ordering::Relaxed) + 1;
        let requests = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let entities = self.entities.fetch_add(entities, Ordering::Relaxed) + entities;
        if requests > self.most_requests {
            self.refused.requests.increment();
            Err(status::too_busy(self.most_requests))
        } else if of_lane > self.most_of_a_lane {
            self.refused.selection.increment();
            Err(status::too_busy_with(self.most_of_a_lane))
        } else if entities > self.most_entities && requests > 1 {
            self.refused.entities.increment();
            Err(status::too_many_entities_at_once(self.most_entities))
        } else {
            Ok(admitted)
        }
    }

    /// What is worked on now.
    pub(crate) fn in_flight(&self) -> InFlight {
        InFlight {
            requests: self.requests.load(Ordering::Relaxed),
            entities: self.entities.load(Ordering::Relaxed),
            most_entities: self.most_entities,
        }
    }

    /// How many requests were not let in, by the limit that they met.
    pub(crate) fn refused(&self) -> [(&'static str, u64); 3] {
        [
            ("requests", self.refused.requests.get()),
            ("selection", self.refused.selection.get()),
            ("entities", self.refused.entities.get()),
        ]
    }

    fn lane(&self, lane: usize) -> &AtomicUsize {
        &self.lanes[lane % LANES]
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let admission = &self.admission;
        admission.lane(self.lane).fetch_sub(1, Ordering::Relaxed);
        admission.requests.fetch_sub(1, Ordering::Relaxed);
        admission
            .entities
            .fetch_sub(self.entities, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn selection(name: &str) -> v1::FeatureSelection {
        v1::FeatureSelection {
            selection: Some(v1::feature_selection::Selection::Service(name.to_owned())),
        }
    }

    fn half() -> Share {
        "50%".parse().unwrap()
    }

    #[test]
    fn one_selection_has_half_of_the_requests_and_the_rest_is_for_others() {
        let admission = Arc::new(Admission::new(8, half(), 1_000));
        let enter = |name: &str| admission.enter(&selection(name), 1);
        let slow: Vec<_> = (0..4).map(|_| enter("slow").unwrap()).collect();
        assert_eq!(enter("slow").err().unwrap().code(), Code::ResourceExhausted);
        // A name that is in another lane.
        let other = (0..)
            .map(|i| format!("other{i}"))
            .find(|name| enter(name).is_ok())
            .unwrap();
        let others: Vec<_> = (0..4).map(|_| enter(&other).unwrap()).collect();
        let third = (0..1_000).map(|i| format!("third{i}"));
        assert!(third.into_iter().all(|name| enter(&name).is_err()));
        drop((slow, others));
        assert!(enter("slow").is_ok());
        assert_eq!(admission.requests.load(Ordering::Relaxed), 0);
        assert_eq!(admission.entities.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn entities_are_counted_over_all_and_a_single_request_always_goes() {
        let admission = Arc::new(Admission::new(8, half(), 100));
        let large = admission.enter(&selection("a"), 1_000).unwrap();
        assert_eq!(
            admission.enter(&selection("b"), 1).err().unwrap().code(),
            Code::ResourceExhausted
        );
        assert_eq!(
            admission.refused(),
            [("requests", 0), ("selection", 0), ("entities", 1)]
        );
        drop(large);
        let _half = admission.enter(&selection("a"), 50).unwrap();
        assert!(admission.enter(&selection("b"), 50).is_ok());
        assert!(admission.enter(&selection("b"), 51).is_err());
    }
}
