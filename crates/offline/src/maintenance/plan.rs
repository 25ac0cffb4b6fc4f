//! Which files compaction puts together: a plain value, worked out from what the log says of the files.
//!
//! A file is *in order* when its rows are sorted and no other file has rows of the same time. What is in order and large
//! stays. So a table that has been compacted is left alone until something is added, and then only what is new, and what
//! shares time with it, is written again.

use crate::delta::{DataFile, Origin, error::EventRange};

/// What the log says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileFacts {
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) events: Option<EventRange>,
    pub(super) is_sorted: bool,
    pub(super) origin: Origin,
}

impl From<&DataFile> for FileFacts {
    fn from(file: &DataFile) -> Self {
        Self {
            path: file.path(),
            bytes: file.bytes(),
            events: file.events(),
            is_sorted: file.is_sorted(),
            origin: file.origin(),
        }
    }
}

/// Files whose rows are written again, sorted, into files of one range of time each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heap {
    pub(super) origin: Origin,
    pub(super) paths: Vec<String>,
    pub(super) bytes: u64,
    /// Into how many files, as far as the times can be told apart.
    pub(super) pieces: usize,
}

/// The heaps to put in order, from the earliest on; files of `target` bytes come of them. None when everything is in
/// order. A file in order of less than half of that is written again too when its neighbours are and there is room.
/// Rows that were pushed never come together with those that runs have computed.
pub(super) fn plan_compaction(files: Vec<FileFacts>, target: u64) -> Vec<Heap> {
    let (pushed, computed) = files
        .into_iter()
        .partition(|file| file.origin == Origin::Push);
    let mut heaps = plan_origin(computed, target);
    heaps.extend(plan_origin(pushed, target));
    heaps
}

/// The heaps of files of one origin.
fn plan_origin(files: Vec<FileFacts>, target: u64) -> Vec<Heap> {
    let mut heaps = Vec::new();
    let mut heap = Growing::default();
    for cluster in clusters(files) {
        let stays = cluster.is_in_order() && cluster.bytes() > target / 2;
        if stays || heap.bytes() + cluster.bytes() > target {
            heaps.extend(std::mem::take(&mut heap).grown(target));
        }
        if !stays {
            heap.0.push(cluster);
        }
    }
    heaps.extend(heap.grown(target));
    heaps
}

/// Clusters of neighbouring times that become one heap.
#[derive(Default)]
struct Growing(Vec<Cluster>);

impl Growing {
    fn bytes(&self) -> u64 {
        self.0.iter().map(Cluster::bytes).sum()
    }

    /// The heap; none when all of it is in order already.
    fn grown(self, target: u64) -> Option<Heap> {
        if self.0.iter().all(Cluster::is_in_order) {
            return None;
        }
        let bytes = self.bytes();
        // Files whose times the log does not know cannot be told apart afterwards either.
        let has_times = self.0.iter().all(|cluster| cluster.has_times());
        let pieces = usize::try_from(bytes.div_ceil(target)).unwrap_or(usize::MAX);
        let origin = self.0.first()?.0.first()?.origin;
        let files = self.0.into_iter().flat_map(|cluster| cluster.0);
        Some(Heap {
            origin,
            paths: files.map(|file| file.path).collect(),
            bytes,
            pieces: if has_times { pieces.max(1) } else { 1 },
        })
    }
}

/// Files that share time, directly or through others.
struct Cluster(Vec<FileFacts>);

impl Cluster {
    fn bytes(&self) -> u64 {
        self.0.iter().map(|file| file.bytes).sum()
    }

    fn is_in_order(&self) -> bool {
        matches!(self.0.as_slice(), [only] if only.is_sorted)
    }

    fn has_times(&self) -> bool {
        self.0.iter().all(|file| file.events.is_some())
    }
}

/// The clusters, from the earliest on.
fn clusters(files: Vec<FileFacts>) -> Vec<Cluster> {
    let mut files: Vec<_> = files
        .into_iter()
        .map(|file| (millis(&file), file))
        .collect();
    files.sort_by(|a, b| (a.0, &a.1.path).cmp(&(b.0, &b.1.path)));
    let mut clusters: Vec<Cluster> = Vec::new();
    let mut reach = i64::MIN;
    for ((first, last), file) in files {
        // Ranges that only touch share no more than a millisecond, which is as exact as the log is.
        match clusters.last_mut() {
            Some(cluster) if first < reach => cluster.0.push(file),
            _ => clusters.push(Cluster(vec![file])),
        }
        reach = reach.max(last);
    }
    clusters
}

/// The first and the last millisecond; all time when the log does not say.
fn millis(file: &FileFacts) -> (i64, i64) {
    file.events.map_or((i64::MIN, i64::MAX), |events| {
        let millis = |at: vintner_core::Timestamp| at.micros().div_euclid(1000);
        (millis(events.first), millis(events.last))
    })
}

#[cfg(test)]
mod tests {
    use vintner_core::Timestamp;

    use super::*;

    /// Sizes in percent of the target.
    const TARGET: u64 = 100;

    fn file(name: &str, bytes: u64, events: Option<(i64, i64)>) -> FileFacts {
        let at = |millis: i64| Timestamp::from_micros(millis * 1000);
        FileFacts {
            path: name.to_owned(),
            bytes,
            events: events.map(|(first, last)| EventRange {
                first: at(first),
                last: Timestamp::from_micros(last * 1000 + 999),
            }),
            is_sorted: name.starts_with('S'),
            origin: match name.contains('p') {
                true => Origin::Push,
                false => Origin::Run,
            },
        }
    }

    /// Files as `name bytes first last`; heaps as `names → pieces`.
    fn plan(files: &[(&str, u64, i64, i64)]) -> Vec<String> {
        let files = files
            .iter()
            .map(|(name, bytes, first, last)| file(name, *bytes, Some((*first, *last))));
        plan_compaction(files.collect(), TARGET)
            .iter()
            .map(text)
            .collect()
    }

    fn text(heap: &Heap) -> String {
        format!("{} → {}", heap.paths.join(" "), heap.pieces)
    }

    #[test]
    fn what_is_in_order_stays() {
        assert_eq!(plan(&[]), [""; 0]);
        assert_eq!(plan(&[("S1", 90, 0, 10), ("S2", 80, 11, 20)]), [""; 0]);
        assert_eq!(
            plan(&[("S1", 1, 0, 10), ("S2", 1, 11, 20), ("S3", 1, 21, 30)]),
            [""; 0]
        );
        assert_eq!(
            plan(&[("S1", 90, 0, 10), ("S2", 80, 10, 20)]),
            [""; 0],
            "they touch"
        );
    }

    #[test]
    fn what_is_not_in_order_is_written_again() {
        assert_eq!(plan(&[("a", 1, 0, 10)]), ["a → 1"]);
        assert_eq!(plan(&[("a", 1, 0, 10), ("b", 1, 20, 30)]), ["a b → 1"]);
        assert_eq!(
            plan(&[("a", 60, 0, 10), ("b", 60, 20, 30)]),
            ["a → 1", "b → 1"]
        );
        assert_eq!(plan(&[("a", 60, 0, 10), ("b", 60, 5, 30)]), ["a b → 2"]);
        assert_eq!(plan(&[("a", 950, 0, 10)]), ["a → 10"]);
    }

    #[test]
    fn only_what_shares_time_with_something_new_is_written_again() {
        let compact = [("S1", 90, 0, 9), ("S2", 80, 10, 19), ("S3", 30, 20, 29)];
        let with = |name, bytes, first, last| {
            let mut files = compact.to_vec();
            files.push((name, bytes, first, last));
            plan(&files)
        };
        assert_eq!(
            with("new", 5, 30, 31),
            ["S3 new → 1"],
            "a small neighbour comes along"
        );
        assert_eq!(with("new", 5, 12, 13), ["S2 new → 1"]);
        assert_eq!(with("new", 50, 12, 13), ["S2 new → 2"]);
        assert_eq!(with("new", 5, 8, 11), ["S1 new S2 → 2"]);
    }

    #[test]
    fn what_was_pushed_stays_apart() {
        assert_eq!(
            plan(&[
                ("a", 1, 0, 10),
                ("p", 1, 0, 10),
                ("p2", 1, 5, 20),
                ("b", 1, 20, 30)
            ]),
            ["a b → 1", "p p2 → 1"]
        );
        assert_eq!(plan(&[("S1", 1, 0, 10), ("Sp", 1, 0, 10)]), [""; 0]);
    }

    #[test]
    fn files_of_unknown_times_go_together_with_all() {
        let files = vec![file("a", 500, None), file("S1", 1, Some((0, 1)))];
        let heaps = plan_compaction(files, TARGET);
        assert_eq!(heaps.iter().map(text).collect::<Vec<_>>(), ["a S1 → 1"]);
        assert!(plan_compaction(vec![file("S1", 500, None)], TARGET).is_empty());
    }
}
