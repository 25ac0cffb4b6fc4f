//! The fuzzer's check on its corpus and on mutations of it: a short run of what `make fuzz` does for longer.

use std::{collections::BTreeSet, fs, path::Path};

use super::{DOCUMENT, hex};

#[path = "../../../../../fuzz/src/row_codec.rs"]
mod row_codec;

const MUTATIONS: usize = 100_000;

/// A small generator of numbers (xorshift64*), so that a seed is all that a run needs to be had again.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }
}

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/row_codec");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], numbers: &mut Numbers) {
    let at = numbers.below(bytes.len());
    match numbers.below(6) {
        _ if bytes.is_empty() => bytes.extend_from_slice(other),
        0 => bytes[at] ^= 1 << numbers.below(8),
        1 => bytes[at] = [0, 1, 2, 0x7f, 0x80, 0xff][numbers.below(6)],
        2 => bytes.insert(at, numbers.next().to_le_bytes()[0]),
        3 => drop(bytes.remove(at)),
        4 => bytes.truncate(at),
        _ => {
            bytes.truncate(at);
            bytes.extend_from_slice(&other[numbers.below(other.len())..]);
        }
    }
}

#[test]
fn the_corpus_has_every_golden_vector() {
    let corpus: BTreeSet<String> = corpus().iter().map(|bytes| hex(bytes)).collect();
    let vectors = DOCUMENT
        .lines()
        .filter_map(|line| line.strip_prefix("bytes   "));
    for vector in vectors {
        assert!(
            corpus.contains(vector),
            "fuzz/corpus/row_codec lacks {vector}"
        );
    }
}

#[test]
#[expect(
    clippy::print_stderr,
    reason = "the seed is for whoever looks at a failure"
)]
fn no_mutation_of_the_corpus_panics_or_is_read_as_what_it_is_not() {
    let seed = std::env::var("VINTNER_FUZZ_SEED").map_or_else(
        |_| std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0) | 1,
        |seed| seed.parse().unwrap(),
    );
    eprintln!("VINTNER_FUZZ_SEED={seed}");
    let mut numbers = Numbers(seed);
    let (layouts, corpus) = (row_codec::layouts(), corpus());
    for bytes in &corpus {
        for layout in &layouts {
            row_codec::check(layout, bytes);
        }
    }
    for _ in 0..MUTATIONS {
        let mut bytes = corpus[numbers.below(corpus.len())].clone();
        for _ in 0..=numbers.below(4) {
            mutate(
                &mut bytes,
                &corpus[numbers.below(corpus.len())],
                &mut numbers,
            );
        }
        row_codec::check(&layouts[numbers.below(layouts.len())], &bytes);
    }
}
