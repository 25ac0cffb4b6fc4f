//! Moments at equal distances.

use vintner_core::{Timestamp, Ttl};

/// The most moments that are taken: hourly ones of eleven years. More are a slip of the pen.
const MOST: u64 = 100_000;

/// The moments from one to another, both inclusive, at equal distances. At least one, at most 100,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshots {
    from: Timestamp,
    to: Timestamp,
    every: Ttl,
}

/// Why there are no such moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotsError {
    /// The end is before the beginning.
    #[error("snapshots from {from} to {to} end before they begin; give the earlier moment first")]
    Order {
        /// The beginning.
        from: Timestamp,
        /// The end.
        to: Timestamp,
    },
    /// They are too many.
    #[error(
        "snapshots from {from} to {to}, one every {every}, are {count} moments; at most {MOST} are taken at once"
    )]
    TooMany {
        /// The beginning.
        from: Timestamp,
        /// The end.
        to: Timestamp,
        /// The distance.
        every: Ttl,
        /// How many there would be.
        count: u64,
    },
}

impl Snapshots {
    /// The moments `from`, `from + every` and so on, up to `to`, which is one of them if it falls on the grid.
    ///
    /// # Errors
    /// [`SnapshotsError`] when `to` is before `from`, and when there would be too many.
    pub fn new(from: Timestamp, to: Timestamp, every: Ttl) -> Result<Self, SnapshotsError> {
        if to < from {
            return Err(SnapshotsError::Order { from, to });
        }
        let snapshots = Self { from, to, every };
        match snapshots.count() {
            count if count > MOST => Err(SnapshotsError::TooMany {
                from,
                to,
                every,
                count,
            }),
            _ => Ok(snapshots),
        }
    }

    /// The first moment.
    pub fn from(&self) -> Timestamp {
        self.from
    }

    /// What no moment is after.
    pub fn to(&self) -> Timestamp {
        self.to
    }

    /// The distance.
    pub fn every(&self) -> Ttl {
        self.every
    }

    /// The moments, in ascending order.
    pub fn moments(&self) -> Vec<Timestamp> {
        // None of these is after `to`, so that nothing saturates.
        let nth = |n: u64| {
            let after = n.saturating_mul(self.every.micros());
            Timestamp::from_micros(self.from.micros().saturating_add_unsigned(after))
        };
        (0..self.count()).map(nth).collect()
    }

    fn count(&self) -> u64 {
        let span = self.to.micros().abs_diff(self.from.micros());
        (span / self.every.micros()).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn moments(from: i64, to: i64, every: u64) -> Vec<i64> {
        let snapshots = Snapshots::new(us(from), us(to), Ttl::from_micros(every).unwrap()).unwrap();
        let moments = snapshots.moments();
        assert_eq!(moments.len() as u64, snapshots.count());
        moments.into_iter().map(Timestamp::micros).collect()
    }

    #[test]
    fn both_ends_are_snapshots_and_the_last_only_on_the_grid() {
        for (from, to, every, want) in [
            (0, 9, 5, &[0, 5][..]),
            (0, 10, 5, &[0, 5, 10]),
            (0, 11, 5, &[0, 5, 10]),
            (-6, -5, 5, &[-6]),
            (-5, 5, 5, &[-5, 0, 5]),
            (7, 7, 1, &[7]),
            (i64::MAX - 2, i64::MAX, 2, &[i64::MAX - 2, i64::MAX]),
            (i64::MAX - 2, i64::MAX, 3, &[i64::MAX - 2]),
            (i64::MIN, -1, Ttl::LONGEST_MICROS, &[i64::MIN, -1]),
            (
                i64::MIN,
                i64::MAX,
                Ttl::LONGEST_MICROS,
                &[i64::MIN, -1, i64::MAX - 1],
            ),
        ] {
            assert_eq!(
                moments(from, to, every),
                want,
                "{from} to {to} every {every}"
            );
        }
    }

    #[test]
    fn moments_that_nobody_can_mean_are_refused() {
        let refused = |from: &str, to: &str, every: &str| {
            let snapshots = Snapshots::new(
                from.parse().unwrap(),
                to.parse().unwrap(),
                every.parse().unwrap(),
            );
            snapshots.unwrap_err().to_string()
        };
        insta::assert_snapshot!(refused("2013-02-01", "2013-01-01", "1d"), @"snapshots from 2013-02-01T00:00:00Z to 2013-01-01T00:00:00Z end before they begin; give the earlier moment first");
        insta::assert_snapshot!(refused("2013-01-01", "2013-02-01", "1s"), @"snapshots from 2013-01-01T00:00:00Z to 2013-02-01T00:00:00Z, one every 1s, are 2678401 moments; at most 100000 are taken at once");
        let most = Ttl::from_micros(1).unwrap();
        assert!(Snapshots::new(us(1), us(100_000), most).is_ok());
        assert!(Snapshots::new(us(0), us(100_000), most).is_err());
    }
}
