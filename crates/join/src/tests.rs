//! The four steps against the naive oracle, over every layout of a view's rows.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, UInt32Array},
    compute::{concat_batches, take},
};
use proptest::prelude::*;
use vintner_core::{
    Boundary, FeatureType, KeyType, KeyValue, Knowledge, RowTime, ScalarType, Timestamp, Ttl,
    Value, ViewId, arrow_values,
};
use vintner_testkit::{
    grid::{self, Layout},
    oracle::{self, EntityRow, Feature, FeatureRow, JoinCase, View},
};

use super::*;

fn spec(case: &JoinCase) -> JoinSpec {
    let (views, outputs) = grid::described(case);
    let views = views.into_iter().map(|view| ViewInput {
        view: view.view,
        keys: view.keys,
        rule: view.rule,
        features: view.features,
    });
    let outputs = outputs.into_iter().map(|output| OutputColumn {
        view: output.view,
        feature: output.feature,
        name: output.name,
        default: output.default,
    });
    JoinSpec {
        time_column: grid::EVENT.to_owned(),
        views: views.collect(),
        outputs: outputs.collect(),
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

    /// What the view has to say, and what lint counts of it when rows that are too old are matched too.
    fn answer(
        &self,
        input: &ViewInput,
        asked: &[usize],
        index: Arc<EntityIndex>,
        matching: Matching,
    ) -> (ViewAnswer, LintCounts) {
        let rule = input.rule;
        let offered = match matching {
            Matching::Visible => rule,
            Matching::TooOldToo => rule.without_ttl(),
        };
        let mut best = BestRows::new(&index, self.units.len()).unwrap();
        for part in &self.parts {
            let mut found = BestRows::new(&index, self.units.len()).unwrap();
            for &unit in part {
                for (first, batch) in self.slices(unit) {
                    let rows = self.rows(&batch);
                    let row_of = |i| first + u32::try_from(i).unwrap();
                    let unit = u32::try_from(unit).unwrap();
                    found.offer(&index, offered, &rows, unit, row_of).unwrap();
                }
            }
            best.merge(&found);
        }
        let times = self.units.iter().flat_map(|unit| {
            let rows = self.rows(unit);
            rows.times().map(|time| time.event).collect::<Vec<_>>()
        });
        let counts = LintCounts::of_times(&index, rule, &best, times.min());
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
        let answer = ViewAnswer {
            index,
            winners,
            values,
        };
        let counts = counts.with_values(&answer, asked.len());
        (answer, counts)
    }
}

/// Which rows are matched with entity rows.
#[derive(Clone, Copy, Debug)]
enum Matching {
    Visible,
    TooOldToo,
}

/// A join that has been run.
#[derive(Debug, PartialEq)]
struct Joined {
    rows: RecordBatch,
    /// How many entity rows have no key.
    without_key: usize,
    /// How many see a row of each view.
    matched: Vec<usize>,
    lint: Vec<LintCounts>,
}

/// Runs a join in memory.
fn join(case: &JoinCase, layout: Layout, matching: Matching) -> Joined {
    let spec = spec(case);
    let all = grid::entity_batch(case);
    let columns = EntityColumns::find(&spec, &all.schema()).unwrap();
    let mut builder = columns.builder(0);
    for at in (0..all.num_rows()).step_by(layout.batch_rows) {
        let rows = layout.batch_rows.min(all.num_rows() - at);
        builder.push(all.slice(at, rows)).unwrap();
    }
    let entity_rows = builder.finish().unwrap();
    let (answers, lint): (Vec<_>, Vec<_>) = (0..spec.views.len())
        .map(|view| {
            let index = Arc::clone(&entity_rows.indexes[view]);
            let table = Table::new(case, &spec, view, layout);
            table.answer(&spec.views[view], &spec.asked(view), index, matching)
        })
        .unzip();
    let schema = spec.schema(&all.schema()).unwrap();
    let features = OutputFeature::all(&spec).unwrap();
    let mut first_row = 0;
    let mut batches = Vec::new();
    for batch in &entity_rows.batches {
        batches.push(output_batch(&schema, &features, &answers, batch, first_row).unwrap());
        first_row += batch.num_rows();
    }
    Joined {
        rows: concat_batches(&schema, &batches).unwrap(),
        without_key: entity_rows.without_key,
        matched: answers.iter().map(ViewAnswer::matched_rows).collect(),
        lint,
    }
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
    let joined = join(case, layout, Matching::Visible);
    let linted = join(case, layout, Matching::TooOldToo);
    let entity_rows = grid::entity_batch(case);
    let width = entity_rows.num_columns();
    assert_eq!(&joined.rows.columns()[..width], entity_rows.columns());
    assert_eq!(cells(case, &joined.rows), oracle::join(case), "{layout:?}");
    assert_eq!(cells(case, &linted.rows), oracle::join(case), "{layout:?}");
    let asked: Vec<_> = (0..case.views.len())
        .map(|view| spec(case).asked(view))
        .collect();
    for (view, lint) in linted.lint.iter().enumerate() {
        assert_eq!(*lint, counted(case, view, &asked[view]), "view {view}");
    }
    let used: Vec<usize> = case.views.iter().flat_map(|v| v.keys.clone()).collect();
    let is_without_key = |row: &&EntityRow| {
        row.time.is_none() || used.iter().any(|&column| row.keys[column].is_none())
    };
    let want = case.entity_rows.iter().filter(is_without_key).count();
    assert_eq!(joined.without_key, want);
    let want: Vec<_> = (0..case.views.len())
        .map(|view| oracle::matched(case, view))
        .collect();
    assert_eq!(joined.matched, want);
    assert_eq!(linted.matched, want);
}

/// What the oracle counts for lint, of the features that are asked for.
fn counted(case: &JoinCase, view: usize, asked: &[usize]) -> LintCounts {
    let want = oracle::lint(case, view);
    let events = case.views[view].rows.iter().map(|row| row.time.event);
    LintCounts {
        first_event: events.min(),
        asking: want.asking,
        before_first: want.before_first,
        expired: want.expired,
        late: want.late,
        own_time: want.own_time,
        nulls: asked.iter().map(|&feature| want.nulls[feature]).collect(),
    }
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
        for matching in [Matching::Visible, Matching::TooOldToo] {
            prop_assert_eq!(join(&case, layout, matching), join(&case, other, matching));
        }
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
    let found = cells(&case, &join(&case, layout, Matching::Visible).rows);
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
