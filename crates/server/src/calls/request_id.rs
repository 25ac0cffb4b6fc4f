//! The id of a call: the caller's own, or one that is made. It goes back with the answer and stands in the log.

use std::{
    cell::RefCell,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The metadata key, in both directions.
pub(crate) const REQUEST_ID_KEY: HeaderName = HeaderName::from_static("x-request-id");
/// The most characters that a caller's id may have.
const MOST: usize = 128;

thread_local! {
    /// The id of the call that this thread works on at this moment.
    static CURRENT: RefCell<Option<Id>> = const { RefCell::new(None) };
}

/// The id of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Id {
    /// The caller's own.
    Given(HeaderValue),
    /// A made one. Most are never read, so it is written out when it is needed.
    Made(u64),
}

impl Id {
    /// What goes back with the answer. No two calls have the same, so it is kept out of the connection's table of
    /// headers, which holds what comes again.
    pub(super) fn header(&self) -> HeaderValue {
        let mut value = match self {
            Self::Given(given) => given.clone(),
            Self::Made(number) => HeaderValue::from_bytes(&digits(*number))
                .unwrap_or(HeaderValue::from_static("none")),
        };
        value.set_sensitive(true);
        value
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(given) => f.write_str(given.to_str().unwrap_or_default()),
            Self::Made(number) => write!(f, "{number:016x}"),
        }
    }
}

fn digits(number: u64) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0_u8; 16];
    for (pair, byte) in text.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        if let [high, low] = pair {
            *high = DIGITS[usize::from(byte >> 4)];
            *low = DIGITS[usize::from(byte & 15)];
        }
    }
    text
}

/// Makes ids: no two of a process are equal, and those of two processes hardly ever.
#[derive(Debug)]
pub(super) struct Ids {
    next: AtomicU64,
}

impl Ids {
    pub(super) fn new() -> Self {
        Self {
            next: AtomicU64::new(RandomState::new().hash_one("request ids")),
        }
    }

    /// The id that came with the call, if it is sane; else a new one.
    pub(super) fn of(&self, headers: &HeaderMap) -> Id {
        match headers.get(REQUEST_ID_KEY) {
            Some(given) if sane(given.as_bytes()) => Id::Given(given.clone()),
            _ => Id::Made(mix(self.next.fetch_add(1, Ordering::Relaxed))),
        }
    }
}

/// Whether a caller's id can stand in a log as it is: short, of letters, digits and a few signs.
fn sane(id: &[u8]) -> bool {
    let fits = |c: &u8| c.is_ascii_alphanumeric() || b"-_.:/+=@".contains(c);
    (1..=MOST).contains(&id.len()) && id.iter().all(fits)
}

/// One number to another, each to its own (splitmix64), so that ids do not look alike.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Does what belongs to a call, on this thread.
pub(super) fn scope<T>(id: &Id, work: impl FnOnce() -> T) -> T {
    /// Puts back what was there, also when the work panics.
    struct Before(Option<Id>);
    impl Drop for Before {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    let _before = Before(CURRENT.replace(Some(id.clone())));
    work()
}

/// The id of the call that is worked on here, for the log; empty outside of calls.
pub(crate) fn of_this_call() -> String {
    CURRENT.with_borrow(|id| id.as_ref().map(Id::to_string).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_sane_id_is_kept_and_any_other_is_replaced() {
        let ids = Ids::new();
        let longest = "x".repeat(MOST);
        let too_long = "x".repeat(MOST + 1);
        for (given, kept) in [
            ("a", true),
            ("0af7651916cd43dd-8448eb211c80319c_B.7:/+=@", true),
            (longest.as_str(), true),
            (too_long.as_str(), false),
            ("", false),
            ("two words", false),
            ("quoted\"", false),
            ("é", false),
            ("new\tline", false),
        ] {
            let value = HeaderValue::from_bytes(given.as_bytes()).unwrap();
            let headers = HeaderMap::from_iter([(REQUEST_ID_KEY, value.clone())]);
            let id = ids.of(&headers);
            assert_eq!(id == Id::Given(value), kept, "{given:?}");
            assert!(sane(id.header().as_bytes()), "{given:?}");
            assert_eq!(id.header().to_str().unwrap(), id.to_string(), "{given:?}");
        }
    }

    #[test]
    fn made_ids_are_all_different() {
        let ids = Ids::new();
        let made: BTreeSet<_> = (0..10_000)
            .map(|_| ids.of(&HeaderMap::new()).to_string())
            .collect();
        assert_eq!(made.len(), 10_000);
        assert!(made.iter().all(|id| id.len() == 16));
    }

    #[test]
    fn the_id_is_known_while_the_call_is_worked_on_and_no_longer() {
        let (outer, inner) = (
            Id::Given(HeaderValue::from_static("outer")),
            Id::Given(HeaderValue::from_static("inner")),
        );
        assert_eq!(of_this_call(), "");
        scope(&outer, || {
            assert_eq!(of_this_call(), "outer");
            let panicked = std::panic::catch_unwind(|| scope(&inner, || panic!("it fails")));
            assert!(panicked.is_err());
            assert_eq!(of_this_call(), "outer");
        });
        assert_eq!(of_this_call(), "");
    }
}
