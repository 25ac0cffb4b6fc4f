use super::*;
use crate::embedded::environment::{open_databases, open_environment};

/// How many rows [`World::new`] writes.
const ROWS: u32 = 1000;

struct World {
    env: Env<WithoutTls>,
    databases: Databases,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let env = open_environment(folder.path(), 16 << 20).unwrap();
        let databases = open_databases(&env).unwrap();
        let world = Self {
            env,
            databases,
            _folder: folder,
        };
        world.put(0..ROWS);
        world
    }

    /// Writes rows, each of which has its own key's bytes twice.
    fn put(&self, rows: std::ops::Range<u32>) {
        let mut txn = self.env.write_txn().unwrap();
        for row in rows {
            let key = stored(row);
            let value = [key.as_slice(), &key].concat();
            self.databases.rows.put(&mut txn, &key, &value).unwrap();
        }
        txn.commit().unwrap();
    }

    fn index(&self) -> Index {
        let built = Index::build(&self.env, &self.databases, || true).unwrap();
        built.expect("nobody else writes")
    }

    /// The values of keys, as the index says; none when it does not hold.
    fn values(&self, index: &Index, rows: &[u32]) -> Option<Vec<Option<Vec<u8>>>> {
        let txn = self.env.read_txn().unwrap();
        let mut keys = StoredKeys::default();
        for row in rows {
            keys.push_stored(&stored(*row));
        }
        let values = index.within(&txn)?.values(&self.databases, &keys).unwrap();
        Some(values.into_iter().map(|v| v.map(<[u8]>::to_vec)).collect())
    }
}

/// Of different lengths.
fn stored(row: u32) -> Vec<u8> {
    format!("{row:0width$}", width = 1 + row as usize % 40).into_bytes()
}

fn value(row: u32) -> Option<Vec<u8>> {
    Some(stored(row).repeat(2))
}

#[test]
fn every_row_is_found_and_no_other() {
    let world = World::new();
    let index = world.index();
    assert!(index.complete);
    let rows: Vec<u32> = (0..2 * ROWS).rev().collect();
    let want = rows.iter().map(|row| value(*row).filter(|_| *row < ROWS));
    assert_eq!(world.values(&index, &rows), Some(want.collect()));
    assert_eq!(world.values(&index, &[]), Some(vec![]));
}

#[test]
fn an_index_of_nothing_finds_nothing() {
    let world = World::new();
    let mut txn = world.env.write_txn().unwrap();
    world.databases.rows.clear(&mut txn).unwrap();
    txn.commit().unwrap();
    assert_eq!(
        world.values(&world.index(), &[0, 1]),
        Some(vec![None, None])
    );
}

#[test]
fn an_index_holds_in_its_own_snapshot_only() {
    let world = World::new();
    let before = world.env.read_txn().unwrap();
    let old = world.index();
    world.put(ROWS..ROWS + 1);
    assert_eq!(world.values(&old, &[0]), None);
    assert!(old.within(&before).is_some());
    let new = world.index();
    assert_eq!(world.values(&new, &[ROWS]), Some(vec![value(ROWS)]));
    assert!(new.within(&before).is_none());
}

#[test]
fn another_key_of_the_same_tag_is_not_taken_for_it() {
    let world = World::new();
    let mut index = world.index();
    for wanted in [ROWS + 1, 7] {
        let (_, tag) = index.start(&stored(wanted));
        for slot in &mut index.slots {
            slot.tag = tag;
        }
        let want = value(wanted).filter(|_| wanted < ROWS);
        assert_eq!(world.values(&index, &[wanted]), Some(vec![want]));
    }
}

#[test]
fn a_large_row_is_searched_for() {
    let world = World::new();
    let large = vec![7; 10_000];
    let mut txn = world.env.write_txn().unwrap();
    let key = stored(ROWS);
    world.databases.rows.put(&mut txn, &key, &large).unwrap();
    txn.commit().unwrap();
    let index = world.index();
    assert!(!index.complete);
    let found = world.values(&index, &[1, ROWS, ROWS + 1]);
    assert_eq!(found, Some(vec![value(1), Some(large), None]));
}

#[test]
fn an_index_that_is_not_wanted_is_given_up() {
    let world = World::new();
    let looks = std::cell::Cell::new(0);
    let unwanted = || {
        looks.set(looks.get() + 1);
        false
    };
    // Too few rows to look even once.
    let few = Index::build(&world.env, &world.databases, unwanted).unwrap();
    assert!(few.is_some() && looks.get() == 0);
    world.put(ROWS..u32::try_from(LOOK_ROWS).unwrap());
    let many = Index::build(&world.env, &world.databases, unwanted).unwrap();
    assert!(many.is_none() && looks.get() == 1);
    let overtaken = || {
        world.put(0..1);
        true
    };
    let stale = Index::build(&world.env, &world.databases, overtaken).unwrap();
    assert!(stale.is_none());
}

#[test]
fn an_index_is_wanted_once_when_searching_has_cost_as_much() {
    let demand = Demand::default();
    let rows = 10 * ROWS_PER_SEARCH;
    assert!(!demand.searched(1, 4, rows));
    assert!(!demand.searched(1, 5, rows));
    assert!(demand.searched(1, 1, rows));
    assert!(!demand.searched(1, 100, rows));
    // A commit begins it again.
    assert!(!demand.searched(2, 9, rows));
    assert!(demand.searched(2, 1, rows));
    assert!(demand.searched(3, 0, 0));
}
