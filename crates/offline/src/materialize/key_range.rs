//! Parts of all keys: samples, and as many keys as fit the memory.

/// The keys whose hash is in a range. The same keys for every table and every store, whatever else they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRange {
    first: u64,
    last: u64,
}

/// The hash that ranges go by: the first eight bytes, read as big-endian, of the BLAKE3 hash of the encoded key.
pub fn key_hash(key: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(key).as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

impl KeyRange {
    /// All keys.
    pub const ALL: Self = Self {
        first: 0,
        last: u64::MAX,
    };

    /// About so many of a million keys, at least none and at most all.
    pub fn of_a_million(parts: u32) -> Self {
        let end = (u128::from(parts.min(1_000_000)) << 64) / 1_000_000;
        match u64::try_from(end.saturating_sub(1)) {
            Ok(last) => Self { first: 0, last },
            Err(_) => Self::ALL,
        }
    }

    /// Whether it has the key with this hash.
    pub fn has_hash(self, hash: u64) -> bool {
        self.first <= hash && hash <= self.last
    }

    /// Whether it has a key.
    pub(super) fn has(self, key: &[u8]) -> bool {
        self == Self::ALL || self.has_hash(key_hash(key))
    }

    /// Its first half; none when it is one hash.
    pub(super) fn first_half(self) -> Option<Self> {
        let last = self.first + (self.last - self.first) / 2;
        (last < self.last).then_some(Self { last, ..self })
    }

    /// What of `self` comes after `done`, with which it begins.
    pub fn after(self, done: Self) -> Option<Self> {
        let first = done.last.checked_add(1)?;
        (first <= self.last).then_some(Self { first, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_and_rests_make_up_the_whole() {
        for whole in [KeyRange::ALL, KeyRange::of_a_million(10_000)] {
            let (mut done, mut rest) = (Vec::new(), Some(whole));
            while let Some(range) = rest {
                let part = range.first_half().and_then(KeyRange::first_half);
                let part = part.unwrap_or(range);
                done.push(part);
                rest = if done.len() == 5 {
                    None
                } else {
                    whole.after(part)
                };
            }
            assert_eq!(done[0].first, 0);
            for pair in done.windows(2) {
                assert_eq!(pair[0].last + 1, pair[1].first);
            }
            assert_eq!(whole.after(whole), None);
        }
        assert_eq!(KeyRange::of_a_million(1_000_000), KeyRange::ALL);
        assert_eq!(KeyRange::of_a_million(500_000).last, u64::MAX / 2);
    }
}
