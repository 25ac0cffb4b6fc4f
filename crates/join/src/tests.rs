//! The four steps against the naive oracle, over every layout of a view's rows.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, UInt32Array},
    compute::{concat_batches, take},
};
use proptest::prelude::*;
use vintner_core::{
    Boundary, FeatureType, JoinKey, KeySchema, KeyType, KeyValue, Knowledge, RowTime, ScalarType,
    Timestamp, Ttl, Value, ViewId, ViewVersion, VisibilityRule, arrow_values,
};
use vintner_testkit::{
    grid::{self, Layout},
    oracle::{self, EntityRow, Feature, FeatureRow, JoinCase, View},
};

use super::*;

fn spec(case: &JoinCase) -> JoinSpec {
    let view_input = |(number, view): (usize, &View)| {
        let keys = view.keys.iter().map(|&column| JoinKey {
            name: case.key_columns[column].0.parse().unwrap(),
            key_type: case.key_columns[column].1,
        });
        ViewInput {
            view: ViewId {
                name: format!("view{number}").parse().unwrap(),
                version: ViewVersion::FIRST,
            },
            keys: KeySchema::new(keys.collect()).unwrap(),
            rule: VisibilityRule {
                ttl: view.ttl,
                knowledge: case.knowledge,
                boundary: case.boundary,
            },
            features: view
                .features
                .iter()
                .map(|f| (f.name.parse().unwrap(), f.feature_type))
                .collect(),
        }
    };
    let output = |&(view, feature): &(usize, usize)| {
        let Feature { name, default, .. } = &case.views[view].features[feature];
        OutputColumn {
            view,
            feature: name.parse().unwrap(),
            name: format!("view{view}__{name}"),
            default: default.clone(),
        }
    };
    JoinSpec {
        time_column: grid::EVENT.to_owned(),
        views: case.views.iter().enumerate().map(view_input).collect(),
        outputs: case.outputs.iter().map(output).collect(),
    }
}

/// A view's rows as the join reads them: units of rows, in parts that are streamed apart.
struct Table {
    view: ViewId,
    keys: usize,
    units: Vec<RecordBatch>,
    parts: Vec<Vec<usize>>,
}

impl Table {
    fn new(case: &JoinCase, spec: &JoinSpec, number: usize, layout: Layout) -> Self {
        let (mut units, mut parts) = (Vec::new(), Vec::new());
        for batches in layout.split(case.views[number].rows.len()) {
            parts.push((units.len()..units.len() + batches.len()).collect());
            units.extend(
                batches
                    .iter()
                    .map(|rows| grid::feature_batch(case, number, rows)),
            );
        }
        Self {
            view: spec.views[number].view.clone(),
            keys: case.views[number].keys.len(),
            units,
            parts,
        }
    }

    fn rows<'a>(&self, batch: &'a RecordBatch) -> FeatureRows<'a> {
        let times = [self.keys, self.keys + 1];
        let times = times.map(|place| (batch.schema_ref().field(place).name().as_str(), place));
        let times = times.map(|(name, place)| (name, batch.column(place)));
        FeatureRows::new(&self.view, &batch.columns()[..self.keys], times).unwrap()
    }

    /// The batch in slices of two rows, with the row that each begins with.
    fn slices(&self, unit: usize) -> impl Iterator<Item = (u32, RecordBatch)> {
        let batch = self.units[unit].clone();
        let starts = (0..batch.num_rows()).step_by(2);
        starts.map(move |at| {
            let rows = 2.min(batch.num_rows() - at);
            (u32::try_from(at).unwrap(), batch.slice(at, rows))
        })
    }

    fn answer(&self, input: &ViewInput, asked: &[usize], index: Arc<EntityIndex>) -> ViewAnswer {
        let rule = input.rule;
        let mut best = BestRows::new(&index, self.units.len()).unwrap();
        for part in &self.parts {
            let mut found = BestRows::new(&index, self.units.len()).unwrap();
            for &unit in part {
                for (first, batch) in self.slices(unit) {
                    let rows = self.rows(&batch);
                    let row_of = |i| first + u32::try_from(i).unwrap();
                    let unit = u32::try_from(unit).unwrap();
                    found.offer(&index, rule, &rows, unit, row_of).unwrap();
                }
            }
            best.merge(&found);
        }
        let winners = best.resolve(&index, rule).unwrap();
        let mut values = Values::new(&winners);
        for unit in winners.by_unit().iter().map(UnorderedWinners::by_row) {
            let rows = UInt32Array::from(unit.rows.clone());
            let features = &self.units[unit.unit as usize].columns()[self.keys + 2..];
            let columns = asked
                .iter()
                .map(|&f| take(&features[f], &rows, None).unwrap());
            values.put(&unit, columns.collect()).unwrap();
        }
        let order = TieBreak::new(&input.features);
        let mut tied = TiedRows::new(&winners, order.clone(), 3);
        for unit in winners.tied_units() {
            let mut found = TiedRows::new(&winners, order.clone(), 3);
            for (_, batch) in self.slices(unit as usize) {
                let (rows, features) = (self.rows(&batch), &batch.columns()[self.keys + 2..]);
                found
                    .offer(&index, rule, &winners, &rows, features)
                    .unwrap();
            }
            tied.merge(found).unwrap();
        }
        values.put_tied(&winners, tied, asked).unwrap();
        assert!(values.is_complete());
        ViewAnswer {
            index,
            winners,
            values,
        }
    }
}

/// Runs a join in memory: the result and how many entity rows have no key, and see a row of each view.
fn join(case: &JoinCase, layout: Layout) -> (RecordBatch, usize, Vec<usize>) {
    let spec = spec(case);
    let all = grid::entity_batch(case);
    let columns = EntityColumns::find(&spec, &all.schema()).unwrap();
    let mut builder = columns.builder(0);
    for at in (0..all.num_rows()).step_by(layout.batch_rows) {
        let rows = layout.batch_rows.min(all.num_rows() - at);
        builder.push(all.slice(at, rows)).unwrap();
    }
    let entity_rows = builder.finish().unwrap();
    let answers: Vec<ViewAnswer> = (0..spec.views.len())
        .map(|view| {
            let index = Arc::clone(&entity_rows.indexes[view]);
            let table = Table::new(case, &spec, view, layout);
            table.answer(&spec.views[view], &spec.asked(view), index)
        })
        .collect();
    let schema = spec.schema(&all.schema()).unwrap();
    let features = OutputFeature::all(&spec).unwrap();
    let mut first_row = 0;
    let mut batches = Vec::new();
    for batch in &entity_rows.batches {
        batches.push(output_batch(&schema, &features, &answers, batch, first_row).unwrap());
        first_row += batch.num_rows();
    }
    let matched = answers.iter().map(ViewAnswer::matched_rows).collect();
    let joined = concat_batches(&schema, &batches).unwrap();
    (joined, entity_rows.without_key, matched)
}

fn cells(case: &JoinCase, joined: &RecordBatch) -> Vec<Vec<Option<Value>>> {
    let width = case.key_columns.len() + 2;
    let rows = (0..joined.num_rows()).map(|row| {
        let cell = |(i, &(view, feature)): (usize, &(usize, usize))| {
            let feature_type = case.views[view].features[feature].feature_type;
            arrow_values::value_at(joined.column(width + i), feature_type, row)
        };
        case.outputs.iter().enumerate().map(cell).collect()
    });
    rows.collect()
}

/// Every cell and every count, against the oracle's.
fn check(case: &JoinCase, layout: Layout) {
    let (joined, without_key, matched) = join(case, layout);
    let entity_rows = grid::entity_batch(case);
    let width = entity_rows.num_columns();
    assert_eq!(&joined.columns()[..width], entity_rows.columns());
    assert_eq!(cells(case, &joined), oracle::join(case), "{layout:?}");
    let used: Vec<usize> = case.views.iter().flat_map(|v| v.keys.clone()).collect();
    let is_without_key = |row: &&EntityRow| {
        row.time.is_none() || used.iter().any(|&column| row.keys[column].is_none())
    };
    let want = case.entity_rows.iter().filter(is_without_key).count();
    assert_eq!(without_key, want);
    let want: Vec<_> = (0..case.views.len())
        .map(|view| oracle::matched(case, view))
        .collect();
    assert_eq!(matched, want);
}

/// So many cases, unless `PROPTEST_CASES` asks for another number.
fn cases(usual: u32) -> ProptestConfig {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default(),
        None => ProptestConfig::with_cases(usual),
    }
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn the_join_agrees_with_the_oracle(case in grid::join_case(), layout in Layout::any()) {
        check(&case, layout);
    }
}

proptest! {
    #![proptest_config(cases(100))]

    /// A long history of few keys: slots are won again and again, and ties are many.
    #[test]
    fn a_long_history_agrees_too(case in grid::long_case(), layout in Layout::any(), other in Layout::any()) {
        check(&case, layout);
        prop_assert_eq!(join(&case, layout), join(&case, other));
    }
}

/// One feature row of one key, at every pair of times around an anchor, asked about at every time: what no rule of
/// time can get wrong without being seen.
#[test]
fn every_time_against_every_other() {
    for anchor in grid::ANCHORS {
        for ttl in grid::TTLS {
            let times = grid::instants(anchor, ttl);
            for ttl in [None, Ttl::from_micros(ttl)] {
                for (knowledge, boundary) in grid::MODES {
                    let layout = Layout {
                        partitions: 2,
                        batch_rows: 100,
                        seed: 1,
                    };
                    check(
                        &grid::every_time_case(&times, ttl, knowledge, boundary),
                        layout,
                    );
                }
            }
        }
    }
}

/// One view of the key `k` with these rows: event, created, value.
fn case(
    entity_rows: &[(Option<i64>, Option<i64>)],
    ttl: u64,
    rows: &[(i64, i64, Option<i64>)],
) -> JoinCase {
    let us = Timestamp::from_micros;
    let time = |(event, created)| RowTime {
        event: us(event),
        created: us(created),
    };
    JoinCase {
        key_columns: vec![("k".into(), KeyType::Int64)],
        entity_rows: entity_rows
            .iter()
            .map(|(key, time)| EntityRow {
                keys: vec![key.map(KeyValue::Int64)],
                time: time.map(us),
            })
            .collect(),
        views: vec![View {
            keys: vec![0],
            ttl: Ttl::from_micros(ttl),
            features: vec![Feature {
                name: "f".into(),
                feature_type: FeatureType::Scalar(ScalarType::Int64),
                default: None,
            }],
            rows: rows
                .iter()
                .map(|&(event, created, value)| FeatureRow {
                    keys: vec![KeyValue::Int64(1)],
                    time: time((event, created)),
                    values: vec![value.map(Value::Int64)],
                })
                .collect(),
        }],
        outputs: vec![(0, 0)],
        knowledge: Knowledge::Event,
        boundary: Boundary::At,
    }
}

#[test]
fn a_null_in_the_row_that_counts_is_the_answer() {
    let rows = [(1, 1, Some(7)), (2, 2, None)];
    let mut case = case(&[(Some(1), Some(1)), (Some(1), Some(2))], 0, &rows);
    case.views[0].features[0].default = Some(Value::Int64(-1));
    case.entity_rows.push(EntityRow {
        keys: vec![None],
        time: Some(Timestamp::from_micros(5)),
    });
    let layout = Layout {
        partitions: 1,
        batch_rows: 100,
        seed: 0,
    };
    let found = cells(&case, &join(&case, layout).0);
    let want = [7, -1, -1].map(|value| vec![Some(Value::Int64(value))]);
    assert_eq!(found, want);
}

/// A hundred rows of one time in many parts: the greatest value wins, and few rows are looked at again.
#[test]
fn rows_of_equal_times_are_told_apart_by_their_values_in_every_layout() {
    let rows: Vec<_> = (0..100)
        .map(|value| (1, 1, Some(value * 37 % 101)))
        .collect();
    let case = case(&[(Some(1), Some(1))], 0, &rows);
    for partitions in 1..=8 {
        for batch_rows in [1, 3, 100] {
            let seed = u64::try_from(partitions * batch_rows).unwrap();
            let layout = Layout {
                partitions,
                batch_rows,
                seed,
            };
            check(&case, layout);
        }
    }
}

/// What another program has written into a view's table is an error, not a row that is left out.
#[test]
fn a_feature_row_without_a_time_is_an_error() {
    let keys: Vec<ArrayRef> = vec![];
    let column = arrow::array::new_null_array(&ScalarType::Timestamp.arrow(), 1);
    let view: ViewId = "weather@1".parse().unwrap();
    let times = [("event_timestamp", &column), ("created_timestamp", &column)];
    let err = FeatureRows::new(&view, &keys, times).unwrap_err();
    insta::assert_snapshot!(err, @"the rows of weather@1 have a null, or another type, in the column `event_timestamp`; nothing but Vintner may write to its table");
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let case = case(&[(Some(1), Some(5))], 0, &[]);
    let schema = grid::entity_batch(&case).schema();
    let refused = |change: &dyn Fn(&mut JoinSpec)| {
        let mut spec = spec(&case);
        change(&mut spec);
        let found = spec.schema(&schema).map_err(JoinError::from);
        let found = found.and_then(|_| EntityColumns::find(&spec, &schema));
        found.unwrap_err().to_string()
    };
    insta::assert_snapshot!(refused(&|spec| spec.outputs[0].view = 1), @"the output column `view0__f` is of the view in place 1, counted from 0, but there are 1");
    insta::assert_snapshot!(refused(&|spec| spec.outputs[0].feature = "g".parse().unwrap()), @"the output column `view0__f` is the feature `g`, which view0@1 does not have");
    insta::assert_snapshot!(refused(&|spec| spec.outputs[0].default = Some(Value::Bool(true))), @"the default of the output column `view0__f` is of type bool, not int64");
    insta::assert_snapshot!(refused(&|spec| spec.outputs[0].name = "row".into()), @"the result would have two columns `row`");
    insta::assert_snapshot!(refused(&|spec| spec.time_column = "when".into()), @"the entity rows have no column `when`");
}
