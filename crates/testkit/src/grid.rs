//! Small cases in which times sit on each other's boundaries: few keys, few instants, many ties.
//!
//! A fault in a time rule shows only where two times meet, so nothing here is spread out: every time is an anchor, a
//! ttl away from it, or a microsecond beside one of these.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array},
    datatypes::{Field, Schema, SchemaRef},
    record_batch::RecordBatch,
};
use proptest::{prelude::*, sample};
use vintner_core::{
    Boundary, FeatureName, FeatureType, JoinKey, KeySchema, KeyType, KeyValue, Knowledge, RowTime,
    ScalarType, Timestamp, Ttl, Value, ViewId, ViewVersion, VisibilityRule, arrow_values,
};

use crate::oracle::{EntityRow, Feature, FeatureRow, JoinCase, View};

/// The name of the column that says when a row was true.
pub const EVENT: &str = "event_timestamp";
/// The name of the column that says when a row became known.
pub const CREATED: &str = "created_timestamp";

/// Moments around which cases are drawn: the epoch, before it, in this age, and at both ends of what can be held.
pub const ANCHORS: [i64; 6] = [
    0,
    -86_400_000_000,
    1_356_998_400_000_000,
    i64::MAX - 2,
    i64::MIN + 2,
    -62_135_596_800_000_000,
];

/// Ttls, in microseconds: the shortest, one that spans a few instants, an hour, and the longest.
pub const TTLS: [u64; 4] = [1, 5, 3_600_000_000, Ttl::LONGEST_MICROS];

/// The anchor, a ttl before it and a ttl after it, each with its neighbours on both sides.
pub fn instants(anchor: i64, ttl: u64) -> Vec<Timestamp> {
    let around = [
        anchor.saturating_sub_unsigned(ttl),
        anchor,
        anchor.saturating_add_unsigned(ttl),
    ];
    let mut instants: Vec<_> = around
        .iter()
        .flat_map(|at| [at.saturating_sub(1), *at, at.saturating_add(1)])
        .map(Timestamp::from_micros)
        .collect();
    instants.sort();
    instants.dedup();
    instants
}

/// Every mode that a dataset can be asked for in.
pub const MODES: [(Knowledge, Boundary); 4] = [
    (Knowledge::Event, Boundary::At),
    (Knowledge::Event, Boundary::Before),
    (Knowledge::Available, Boundary::At),
    (Knowledge::Available, Boundary::Before),
];

/// One of [`MODES`].
pub fn modes() -> impl Strategy<Value = (Knowledge, Boundary)> {
    sample::select(MODES.to_vec())
}

/// Every type that a feature can have.
pub fn feature_type() -> impl Strategy<Value = FeatureType> {
    (
        sample::select(ScalarType::ALL.to_vec()),
        prop::bool::weighted(0.3),
    )
        .prop_map(|(scalar, list)| match list {
            true => FeatureType::List(scalar),
            false => FeatureType::Scalar(scalar),
        })
}

/// A few values of a type, with those that are hard to order among them.
pub fn value(feature_type: FeatureType) -> BoxedStrategy<Value> {
    match feature_type {
        FeatureType::Scalar(scalar) => sample::select(scalars(scalar)).boxed(),
        FeatureType::List(element) => {
            let item = prop::option::weighted(0.8, sample::select(scalars(element)));
            prop::collection::vec(item, 0..3)
                .prop_map(move |items| Value::List(element, items))
                .boxed()
        }
    }
}

fn scalars(scalar: ScalarType) -> Vec<Value> {
    match scalar {
        ScalarType::Bool => [false, true].map(Value::Bool).to_vec(),
        ScalarType::Int32 => [i32::MIN, -1, 7].map(Value::Int32).to_vec(),
        ScalarType::Int64 => [i64::MIN, -1, 7].map(Value::Int64).to_vec(),
        ScalarType::Float32 => [-f32::NAN, -0.0, 0.0, 1.5, f32::NAN]
            .map(Value::Float32)
            .to_vec(),
        ScalarType::Float64 => [-f64::NAN, -0.0, 0.0, 1.5, f64::NAN]
            .map(Value::Float64)
            .to_vec(),
        ScalarType::String => ["", "Z", "a", "é"]
            .map(|s| Value::String(s.into()))
            .to_vec(),
        ScalarType::Bytes => [&[][..], &[0], &[0, 0], &[255]]
            .map(|b| Value::Bytes(b.to_vec()))
            .to_vec(),
        ScalarType::Timestamp => [i64::MIN, 0, 1]
            .map(|t| Value::Timestamp(Timestamp::from_micros(t)))
            .to_vec(),
    }
}

/// The few keys that cases use, with such that are easily taken for each other.
pub fn key_values(key_type: KeyType) -> Vec<KeyValue> {
    match key_type {
        KeyType::Bool => [false, true].map(KeyValue::Bool).to_vec(),
        KeyType::Int32 => [-1, 1].map(KeyValue::Int32).to_vec(),
        KeyType::Int64 => [i64::MIN, 1].map(KeyValue::Int64).to_vec(),
        KeyType::String => ["", "a\0"].map(|s| KeyValue::String(s.into())).to_vec(),
        KeyType::Bytes => [&[][..], &[0]]
            .map(|b| KeyValue::Bytes(b.to_vec()))
            .to_vec(),
    }
}

/// How a view's rows lie in partitions and batches.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// How many partitions there are.
    pub partitions: usize,
    /// How many rows a batch has at most.
    pub batch_rows: usize,
    /// What decides the order of the rows.
    pub seed: u64,
}

impl Layout {
    /// Any layout of 1 to 4 partitions with small batches.
    pub fn any() -> impl Strategy<Value = Self> {
        (1usize..=4, 1usize..=7, any::<u64>()).prop_map(|(partitions, batch_rows, seed)| Self {
            partitions,
            batch_rows,
            seed,
        })
    }

    /// The numbers of `count` rows: partitions of batches of rows. Every row is in one of them once.
    pub fn split(&self, count: usize) -> Vec<Vec<Vec<usize>>> {
        let place = |row: usize| {
            let mixed = (row as u64 ^ self.seed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 11
        };
        let mut rows: Vec<usize> = (0..count).collect();
        rows.sort_by_key(|&row| place(row));
        let mut partitions = vec![Vec::new(); self.partitions];
        for (i, row) in rows.into_iter().enumerate() {
            partitions[i % self.partitions].push(row);
        }
        partitions
            .into_iter()
            .map(|rows| {
                rows.chunks(self.batch_rows)
                    .map(<[usize]>::to_vec)
                    .collect()
            })
            .collect()
    }
}

/// Joins of up to a dozen entity rows with one to three views.
pub fn join_case() -> impl Strategy<Value = JoinCase> {
    let key_types = prop::collection::vec(sample::select(KeyType::ALL.to_vec()), 1..=3);
    let around = (
        sample::select(ANCHORS.to_vec()),
        sample::select(TTLS.to_vec()),
    );
    (key_types, around, modes()).prop_flat_map(
        |(key_types, (anchor, ttl), (knowledge, boundary))| {
            let times = instants(anchor, ttl);
            // Where few moments are asked about, most of a history need not be read.
            let asked = sample::subsequence(times.clone(), 1..=times.len());
            let entity_rows = {
                let key_types = key_types.clone();
                asked.prop_flat_map(move |asked| {
                    prop::collection::vec(entity_row(&key_types, &asked), 0..12)
                })
            };
            let views = prop::collection::vec(view(&key_types, &times, ttl), 1..=3);
            let key_columns: Vec<_> = key_types
                .iter()
                .enumerate()
                .map(|(i, &key_type)| (format!("k{i}"), key_type))
                .collect();
            (Just(key_columns), entity_rows, views).prop_flat_map(
                move |(key_columns, entity_rows, views)| {
                    let all: Vec<_> = views
                        .iter()
                        .enumerate()
                        .flat_map(|(v, view)| (0..view.features.len()).map(move |f| (v, f)))
                        .collect();
                    let count = 1..=all.len();
                    sample::subsequence(all, count)
                        .prop_shuffle()
                        .prop_map(move |outputs| JoinCase {
                            key_columns: key_columns.clone(),
                            entity_rows: entity_rows.clone(),
                            views: views.clone(),
                            outputs,
                            knowledge,
                            boundary,
                        })
                },
            )
        },
    )
}

fn entity_row(
    key_types: &[KeyType],
    times: &[Timestamp],
) -> impl Strategy<Value = EntityRow> + use<> {
    let keys: Vec<_> = key_types
        .iter()
        .map(|&key_type| prop::option::weighted(0.9, sample::select(key_values(key_type))))
        .collect();
    let time = prop::option::weighted(0.9, sample::select(times.to_vec()));
    (keys, time).prop_map(|(keys, time)| EntityRow { keys, time })
}

fn view(
    key_types: &[KeyType],
    times: &[Timestamp],
    ttl: u64,
) -> impl Strategy<Value = View> + use<> {
    view_of(key_types, times, ttl, 0..24)
}

fn view_of(
    key_types: &[KeyType],
    times: &[Timestamp],
    ttl: u64,
    rows: std::ops::Range<usize>,
) -> impl Strategy<Value = View> + use<> {
    view_on(1, key_types, times, ttl, rows)
}

/// A view with at least so many of the key columns.
fn view_on(
    least: usize,
    key_types: &[KeyType],
    times: &[Timestamp],
    ttl: u64,
    rows: std::ops::Range<usize>,
) -> impl Strategy<Value = View> + use<> {
    let columns: Vec<usize> = (0..key_types.len()).collect();
    let (count, key_types, times) = (least..=columns.len(), key_types.to_vec(), times.to_vec());
    let ttl = sample::select(vec![None, Ttl::from_micros(ttl)]);
    (sample::subsequence(columns, count), ttl, features()).prop_flat_map(
        move |(keys, ttl, features)| {
            let key: Vec<_> = keys
                .iter()
                .map(|&column| sample::select(key_values(key_types[column])))
                .collect();
            let values: Vec<_> = features
                .iter()
                .map(|feature| prop::option::weighted(0.7, value(feature.feature_type)))
                .collect();
            let time = (sample::select(times.clone()), sample::select(times.clone()));
            let row = (key, time, values).prop_map(|(keys, (event, created), values)| FeatureRow {
                keys,
                time: RowTime { event, created },
                values,
            });
            (
                Just(keys),
                Just(ttl),
                Just(features),
                prop::collection::vec(row, rows.clone()),
            )
                .prop_map(|(keys, ttl, features, rows)| View {
                    keys,
                    ttl,
                    features,
                    rows,
                })
        },
    )
}

/// One to four features; the order of their names is not the order they have in the view.
fn features() -> impl Strategy<Value = Vec<Feature>> {
    let names = sample::subsequence(vec!["a", "b", "c", "d"], 1..=4).prop_shuffle();
    names.prop_flat_map(|names| {
        let features: Vec<_> = names
            .into_iter()
            .map(|name| {
                feature_type().prop_flat_map(move |feature_type| {
                    prop::option::weighted(0.3, value(feature_type)).prop_map(move |default| {
                        Feature {
                            name: name.to_owned(),
                            feature_type,
                            default,
                        }
                    })
                })
            })
            .collect();
        features
    })
}

/// Two keys, at most nine instants and a few hundred rows: most rows lose to another, and many tie with one.
pub fn long_case() -> impl Strategy<Value = JoinCase> {
    let around = (
        sample::select(ANCHORS.to_vec()),
        sample::select(TTLS.to_vec()),
    );
    (around, modes()).prop_flat_map(|((anchor, ttl), (knowledge, boundary))| {
        let times = instants(anchor, ttl);
        let key_types = [KeyType::String];
        let entity_rows = prop::collection::vec(entity_row(&key_types, &times), 1..20);
        (entity_rows, view_of(&key_types, &times, ttl, 200..400)).prop_map(
            move |(entity_rows, view)| JoinCase {
                key_columns: vec![("k0".into(), KeyType::String)],
                entity_rows,
                outputs: (0..view.features.len())
                    .map(|feature| (0, feature))
                    .collect(),
                views: vec![view],
                knowledge,
                boundary,
            },
        )
    })
}

/// Up to three views that all have the same keys, without entity rows, and moments in ascending order at which their
/// keys can be asked for. All features are outputs.
pub fn snapshots_case() -> impl Strategy<Value = (JoinCase, Vec<Timestamp>)> {
    let key_types = prop::collection::vec(sample::select(KeyType::ALL.to_vec()), 1..=3);
    let around = (
        sample::select(ANCHORS.to_vec()),
        sample::select(TTLS.to_vec()),
    );
    (key_types, around, modes()).prop_flat_map(
        |(key_types, (anchor, ttl), (knowledge, boundary))| {
            let times = instants(anchor, ttl);
            let view = view_on(key_types.len(), &key_types, &times, ttl, 0..24);
            let views = prop::collection::vec(view, 1..=3);
            let moments = sample::subsequence(times.clone(), 1..=times.len());
            (views, moments).prop_map(move |(views, moments)| {
                let key_columns = key_types.iter().enumerate();
                let outputs = views
                    .iter()
                    .enumerate()
                    .flat_map(|(v, view)| (0..view.features.len()).map(move |f| (v, f)));
                let case = JoinCase {
                    key_columns: key_columns
                        .map(|(i, &key_type)| (format!("k{i}"), key_type))
                        .collect(),
                    entity_rows: vec![],
                    outputs: outputs.collect(),
                    views,
                    knowledge,
                    boundary,
                };
                (case, moments)
            })
        },
    )
}

/// For every pair of event and created time a key of its own with one row, asked about at every time.
pub fn every_time_case(
    times: &[Timestamp],
    ttl: Option<Ttl>,
    knowledge: Knowledge,
    boundary: Boundary,
) -> JoinCase {
    let mut rows = Vec::new();
    let mut entity_rows = Vec::new();
    for &event in times {
        for &created in times {
            let key = KeyValue::Int32(i32::try_from(rows.len()).expect("few times"));
            entity_rows.extend(times.iter().map(|&time| EntityRow {
                keys: vec![Some(key.clone())],
                time: Some(time),
            }));
            rows.push(FeatureRow {
                keys: vec![key],
                time: RowTime { event, created },
                values: vec![Some(Value::Bool(true))],
            });
        }
    }
    JoinCase {
        key_columns: vec![("k0".into(), KeyType::Int32)],
        entity_rows,
        views: vec![View {
            keys: vec![0],
            ttl,
            features: vec![Feature {
                name: "seen".into(),
                feature_type: FeatureType::Scalar(ScalarType::Bool),
                default: None,
            }],
            rows,
        }],
        outputs: vec![(0, 0)],
        knowledge,
        boundary,
    }
}

/// A view of a case as a join's description has it.
#[derive(Clone, Debug)]
pub struct DescribedView {
    /// `view0@1` for the first one.
    pub view: ViewId,
    /// Its join keys.
    pub keys: KeySchema,
    /// Which of its rows count.
    pub rule: VisibilityRule,
    /// Its features.
    pub features: Vec<(FeatureName, FeatureType)>,
}

/// An output column of a case as a join's description has it.
#[derive(Clone, Debug)]
pub struct DescribedOutput {
    /// The view's number.
    pub view: usize,
    /// The feature.
    pub feature: FeatureName,
    /// `view0__a`, say.
    pub name: String,
    /// What takes the place of a null or missing value.
    pub default: Option<Value>,
}

/// The views of a case and its output columns, as a join's description has them.
pub fn described(case: &JoinCase) -> (Vec<DescribedView>, Vec<DescribedOutput>) {
    let join_key = |&column: &usize| {
        let (name, key_type) = &case.key_columns[column];
        JoinKey {
            name: name.parse().expect("a name"),
            key_type: *key_type,
        }
    };
    let view = |(number, view): (usize, &View)| DescribedView {
        view: ViewId {
            name: format!("view{number}").parse().expect("a name"),
            version: ViewVersion::FIRST,
        },
        keys: KeySchema::new(view.keys.iter().map(join_key).collect()).expect("names differ"),
        rule: VisibilityRule {
            ttl: view.ttl,
            knowledge: case.knowledge,
            boundary: case.boundary,
        },
        features: view
            .features
            .iter()
            .map(|f| (f.name.parse().expect("a name"), f.feature_type))
            .collect(),
    };
    let output = |&(view, feature): &(usize, usize)| {
        let Feature { name, default, .. } = &case.views[view].features[feature];
        DescribedOutput {
            view,
            feature: name.parse().expect("a name"),
            name: format!("view{view}__{name}"),
            default: default.clone(),
        }
    };
    (
        case.views.iter().enumerate().map(view).collect(),
        case.outputs.iter().map(output).collect(),
    )
}

/// The entity rows of a case: their key columns, [`EVENT`], and `row`, their number.
pub fn entity_batch(case: &JoinCase) -> RecordBatch {
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (i, (name, key_type)) in case.key_columns.iter().enumerate() {
        let values: Vec<Option<Value>> = case
            .entity_rows
            .iter()
            .map(|row| row.keys[i].clone().map(Value::from))
            .collect();
        fields.push(Field::new(name, key_type.arrow(), true));
        columns.push(column(FeatureType::Scalar(key_type.scalar()), &values));
    }
    let times: Vec<Option<Value>> = case
        .entity_rows
        .iter()
        .map(|row| row.time.map(Value::Timestamp))
        .collect();
    fields.push(Field::new(EVENT, ScalarType::Timestamp.arrow(), true));
    columns.push(column(FeatureType::Scalar(ScalarType::Timestamp), &times));
    fields.push(Field::new("row", ScalarType::Int64.arrow(), false));
    columns.push(Arc::new(Int64Array::from_iter_values(
        (0..).take(case.entity_rows.len()),
    )));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns of one length")
}

/// The columns of a view's table: join keys by name, [`EVENT`], [`CREATED`], features.
pub fn feature_schema(case: &JoinCase, view: usize) -> SchemaRef {
    let view = &case.views[view];
    let keys = view.keys.iter().map(|&i| {
        let (name, key_type) = &case.key_columns[i];
        Field::new(name, key_type.arrow(), false)
    });
    let times = [EVENT, CREATED].map(|name| Field::new(name, ScalarType::Timestamp.arrow(), false));
    let features = view
        .features
        .iter()
        .map(|feature| Field::new(&feature.name, feature.feature_type.arrow(), true));
    Arc::new(Schema::new(
        keys.chain(times).chain(features).collect::<Vec<_>>(),
    ))
}

/// These rows of a view, as [`feature_schema`] says.
pub fn feature_batch(case: &JoinCase, view: usize, rows: &[usize]) -> RecordBatch {
    let schema = feature_schema(case, view);
    let view = &case.views[view];
    let rows: Vec<_> = rows.iter().map(|&row| &view.rows[row]).collect();
    let of = |feature_type, read: &dyn Fn(&FeatureRow) -> Option<Value>| {
        let values: Vec<_> = rows.iter().map(|row| read(row)).collect();
        column(feature_type, &values)
    };
    let time = FeatureType::Scalar(ScalarType::Timestamp);
    let keys = view.keys.iter().enumerate().map(|(i, &key)| {
        let scalar = case.key_columns[key].1.scalar();
        of(FeatureType::Scalar(scalar), &move |row| {
            Some(row.keys[i].clone().into())
        })
    });
    let times = [
        of(time, &|row| Some(Value::Timestamp(row.time.event))),
        of(time, &|row| Some(Value::Timestamp(row.time.created))),
    ];
    let features = view
        .features
        .iter()
        .enumerate()
        .map(|(i, feature)| of(feature.feature_type, &move |row| row.values[i].clone()));
    let columns = keys.chain(times).chain(features).collect();
    RecordBatch::try_new(schema, columns).expect("columns of one length")
}

fn column(feature_type: FeatureType, values: &[Option<Value>]) -> ArrayRef {
    arrow_values::column(feature_type, values.iter().map(Option::as_ref))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest! {
        #[test]
        fn a_layout_holds_every_row_once(layout in Layout::any(), count in 0usize..40) {
            let mut rows: Vec<_> = layout.split(count).into_iter().flatten().flatten().collect();
            rows.sort();
            prop_assert_eq!(rows, (0..count).collect::<Vec<_>>());
        }

        #[test]
        fn cases_can_be_laid_out_as_arrow(case in join_case()) {
            prop_assert_eq!(entity_batch(&case).num_rows(), case.entity_rows.len());
            for (i, view) in case.views.iter().enumerate() {
                let rows: Vec<_> = (0..view.rows.len()).collect();
                prop_assert_eq!(feature_batch(&case, i, &rows).num_rows(), rows.len());
            }
        }
    }

    #[test]
    fn instants_touch_every_boundary() {
        let micros: Vec<_> = instants(10, 5).iter().map(|t| t.micros()).collect();
        assert_eq!(micros, [4, 5, 6, 9, 10, 11, 14, 15, 16]);
        assert_eq!(instants(i64::MAX, 1).last(), Some(&Timestamp::MAX));
    }
}
