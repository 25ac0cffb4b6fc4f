//! The format's golden vectors, and what holds for every row.

mod fuzz;

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Field as ArrowField, Schema};
use proptest::prelude::*;
use vintner_core::{
    Column, FeatureField, FeatureName, FeatureType, RowTime, ScalarType, Timestamp, Value,
    arrow_values,
};
use vintner_registry::model::Layout;

use super::*;

const DOCUMENT: &str = include_str!("../../../../docs/formats/online-row.md");

fn layout(fields: &[(&str, &str)]) -> Layout {
    Layout {
        fields: fields
            .iter()
            .map(|(name, feature_type)| (name.parse().unwrap(), feature_type.parse().unwrap()))
            .collect(),
    }
}

fn time(event: i64, created: i64) -> RowTime {
    RowTime {
        event: Timestamp::from_micros(event),
        created: Timestamp::from_micros(created),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Layout, event, created, values.
type Vector = (Layout, RowTime, Vec<Option<Value>>);

fn golden_vectors() -> Vec<Vector> {
    use Value as V;
    let text = |text: &str| Some(V::String(text.into()));
    vec![
        (layout(&[]), time(0, 0), vec![]),
        (
            layout(&[("a", "int64")]),
            time(1, -1),
            vec![Some(V::Int64(1))],
        ),
        (
            layout(&[("a", "int64")]),
            time(i64::MIN, i64::MAX),
            vec![None],
        ),
        (
            layout(&[
                ("b", "bool"),
                ("i", "int32"),
                ("f", "float32"),
                ("d", "float64"),
                ("t", "timestamp"),
            ]),
            time(0, 0),
            vec![
                Some(V::Bool(true)),
                Some(V::Int32(-2)),
                Some(V::Float32(1.5)),
                Some(V::Float64(-0.0)),
                Some(V::Timestamp(Timestamp::from_micros(-1))),
            ],
        ),
        (
            layout(&[
                ("s", "string"),
                ("n", "string"),
                ("e", "string"),
                ("x", "bytes"),
            ]),
            time(0, 0),
            vec![text("é"), None, text(""), Some(V::Bytes(vec![0, 255]))],
        ),
        (
            layout(&[
                ("v", "list<float32>"),
                ("w", "list<string>"),
                ("z", "list<int32>"),
            ]),
            time(0, 0),
            vec![
                Some(V::List(
                    ScalarType::Float32,
                    vec![Some(V::Float32(1.0)), None],
                )),
                Some(V::List(
                    ScalarType::String,
                    vec![text("a"), None, text(""), text("bc")],
                )),
                Some(V::List(ScalarType::Int32, vec![])),
            ],
        ),
    ]
}

/// The vector as the document writes it.
fn written((layout, time, values): &Vector) -> String {
    let fields: Vec<_> = layout
        .fields
        .iter()
        .map(|(name, kind)| format!("{name}:{kind}"))
        .collect();
    let values: Vec<_> = values
        .iter()
        .map(|value| match value {
            None => "null".to_owned(),
            Some(Value::String(text)) => format!("{text:?}"),
            Some(value @ Value::List(ScalarType::String, _)) => {
                let shown = value.to_string();
                let items = shown.trim_matches(['[', ']']).split(", ");
                let items: Vec<_> = items
                    .map(|item| {
                        if item == "null" {
                            item.to_owned()
                        } else {
                            format!("{item:?}")
                        }
                    })
                    .collect();
                format!("[{}]", items.join(", "))
            }
            Some(Value::Timestamp(instant)) => format!("{} us", instant.micros()),
            Some(value) => value.to_string(),
        })
        .collect();
    format!(
        "layout  {}\ntime    event {} us, created {} us\nvalues  {}",
        or_dash(fields.join(" ")),
        time.event.micros(),
        time.created.micros(),
        or_dash(values.join(" "))
    )
}

fn or_dash(text: String) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text
    }
}

#[test]
fn the_document_has_every_golden_vector() {
    for vector in golden_vectors() {
        let row = RowLayout::new(&vector.0).pack(vector.1, &vector.2).unwrap();
        let want = format!("{}\nbytes   {}\n", written(&vector), hex(row.as_bytes()));
        assert!(
            DOCUMENT.contains(&want),
            "docs/formats/online-row.md lacks this vector:\n{want}"
        );
    }
    assert_eq!(
        DOCUMENT.matches("\nbytes   ").count(),
        golden_vectors().len()
    );
}

#[test]
fn golden_vectors_are_read_back() {
    for (layout, time, values) in golden_vectors() {
        let layout = RowLayout::new(&layout);
        let packed = layout.pack(time, &values).unwrap();
        let row = Row::parse(&layout, packed.as_bytes()).unwrap();
        assert_eq!((row.time(), row.values().unwrap()), (time, values));
    }
}

#[test]
fn the_header_is_readable_alone() {
    let layout = RowLayout::new(&layout(&[("a", "string")]));
    let packed = layout.pack(time(-5, 7), &[None]).unwrap();
    let header = RowHeader::parse(&packed.as_bytes()[..HEADER_BYTES]).unwrap();
    assert_eq!(
        header,
        RowHeader {
            time: time(-5, 7),
            fingerprint: layout.fingerprint()
        }
    );
    for length in 0..HEADER_BYTES {
        let parsed = RowHeader::parse(&packed.as_bytes()[..length]);
        assert_eq!(parsed, Err(RowDecodeError::Short { length }));
    }
}

#[test]
fn the_order_of_time_bytes_is_the_order_of_row_times() {
    let grid = [
        i64::MIN,
        -1_000_000,
        -1,
        0,
        1,
        255,
        256,
        1_000_000,
        i64::MAX,
    ];
    let times: Vec<_> = grid
        .iter()
        .flat_map(|&event| grid.iter().map(move |&created| time(event, created)))
        .collect();
    for a in &times {
        for b in &times {
            assert_eq!(time_bytes(*a).cmp(&time_bytes(*b)), a.cmp(b), "{a:?} {b:?}");
        }
    }
}

#[test]
fn damage_is_named() {
    let features = layout(&[
        ("flag", "bool"),
        ("name", "string"),
        ("tags", "list<string>"),
    ]);
    let layout = RowLayout::new(&features);
    let tags = Value::List(ScalarType::String, vec![Some(Value::String("ab".into()))]);
    let packed = layout
        .pack(
            time(0, 0),
            &[
                Some(Value::Bool(true)),
                Some(Value::String("é".into())),
                Some(tags),
            ],
        )
        .unwrap();
    // Bytes: 21 bitmap, 22 flag, 23 end of name, 27 end of tags, 31 name, 33 tags: count, bitmap, end, text.
    let damaged = |at: usize, with: u8| {
        let mut bytes = packed.as_bytes().to_vec();
        bytes[at] = with;
        Row::parse(&layout, &bytes)
            .and_then(|row| row.values())
            .unwrap_err()
            .to_string()
    };
    let longer = [packed.as_bytes(), &[0]].concat();
    let shorter = &packed.as_bytes()[..packed.as_bytes().len() - 1];
    let whole = |bytes: &[u8]| Row::parse(&layout, bytes).unwrap_err().to_string();
    let messages = [
        damaged(0, 2),
        damaged(17, 0),
        damaged(21, 0b1111),
        damaged(21, 0b110),
        damaged(21, 0b101),
        damaged(22, 2),
        damaged(23, 200),
        damaged(23, 1),
        damaged(27, 1),
        damaged(31, 0xff),
        damaged(33, 9),
        damaged(37, 3),
        damaged(37, 0),
        damaged(38, 1),
        whole(&longer),
        whole(shorter),
        whole(b""),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn what_does_not_fit_the_layout_is_refused() {
    let layout = RowLayout::new(&layout(&[("a", "int32"), ("l", "list<int32>")]));
    let list = |items| Some(Value::List(ScalarType::Int32, items));
    let pack = |values: &[Option<Value>]| layout.pack(time(0, 0), values).unwrap_err().to_string();
    let column: ArrayRef = Arc::new(arrow_array::Int64Array::from(vec![1]));
    let batch = RecordBatch::try_from_iter([("a", Arc::clone(&column))]).unwrap();
    let both = RecordBatch::try_from_iter([
        (
            "a",
            arrow_values::column("int32".parse().unwrap(), [None].into_iter()),
        ),
        (
            "l",
            arrow_values::column("list<int32>".parse().unwrap(), [None].into_iter()),
        ),
    ])
    .unwrap();
    let beyond = RowEncoder::new(&layout, &both).unwrap().pack(1, time(0, 0));
    let messages = [
        pack(&[None]),
        pack(&[Some(Value::Int64(1)), None]),
        pack(&[None, Some(Value::List(ScalarType::Int64, vec![]))]),
        pack(&[None, list(vec![Some(Value::Int64(1))])]),
        RowEncoder::new(&layout, &batch).unwrap_err().to_string(),
        RowEncoder::new(&layout, &batch.project(&[]).unwrap())
            .unwrap_err()
            .to_string(),
        beyond.unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn a_row_has_a_greatest_length() {
    let layout = RowLayout::new(&layout(&[("text", "string"), ("next", "int32")]));
    let room = MAX_ROW_BYTES - layout.variable_at;
    let pack =
        |length: usize| layout.pack(time(0, 0), &[Some(Value::String("x".repeat(length))), None]);
    let longest = pack(room).unwrap();
    assert_eq!(longest.as_bytes().len(), MAX_ROW_BYTES);
    assert_eq!(
        Row::parse(&layout, longest.as_bytes()).unwrap().value(1),
        Ok(None)
    );
    insta::assert_snapshot!(pack(room + 1).unwrap_err());
}

#[test]
fn a_row_of_an_older_layout_lacks_the_newer_features() {
    let feature = |name: &str, feature_type: &str| FeatureField {
        name: name.parse().unwrap(),
        feature_type: feature_type.parse().unwrap(),
        default: None,
        description: String::new(),
    };
    let features = [feature("new", "string"), feature("old", "int32")];
    let older = layout(&[("old", "int32")]);
    let mut revision = crate::tests::revision("view@1", &features, None);
    revision.layouts.insert(0, older.clone());
    let reader = RowReader::new(&revision, &features);

    let old = RowLayout::new(&older)
        .pack(time(1, 1), &[Some(Value::Int32(7))])
        .unwrap();
    let read = |bytes: &[u8]| {
        let row = reader.read(bytes).unwrap();
        let fields = features.iter().enumerate().map(|(index, feature)| {
            let mut column = Column::with_capacity(feature.feature_type, 1);
            let field = row.append(index, &mut column).unwrap();
            (field, column.get(0))
        });
        fields.collect::<Vec<_>>()
    };
    assert_eq!(
        read(old.as_bytes()),
        [(Field::Absent, None), (Field::Value, Some(Value::Int32(7)))]
    );

    let new = RowLayout::new(&revision.layout())
        .pack(time(1, 1), &[Some(Value::String("x".into())), None])
        .unwrap();
    assert_eq!(
        read(new.as_bytes()),
        [
            (Field::Value, Some(Value::String("x".into()))),
            (Field::Null, None)
        ]
    );

    let newer = RowLayout::new(&layout(&[("newest", "int32")]))
        .pack(time(1, 1), &[None])
        .unwrap();
    let unknown = reader.read(newer.as_bytes()).unwrap_err();
    insta::assert_snapshot!(unknown, @"it is written in layout 70daf7a8, which this version of the registry does not have; load the newest registry and read again");
}

/// Few values per type, the odd ones first.
pub(crate) fn value(feature_type: FeatureType) -> BoxedStrategy<Option<Value>> {
    match feature_type {
        FeatureType::Scalar(scalar) => {
            prop::option::of(prop::sample::select(scalars(scalar))).boxed()
        }
        FeatureType::List(element) => {
            let item = prop::option::of(prop::sample::select(scalars(element)));
            prop::option::of(
                prop::collection::vec(item, 0..10)
                    .prop_map(move |items| Value::List(element, items)),
            )
            .boxed()
        }
    }
}

fn scalars(scalar: ScalarType) -> Vec<Value> {
    use Value as V;
    match scalar {
        ScalarType::Bool => vec![V::Bool(false), V::Bool(true)],
        ScalarType::Int32 => [0, 1, -1, i32::MIN, i32::MAX].map(V::Int32).into(),
        ScalarType::Int64 => [0, 1, -1, i64::MIN, i64::MAX].map(V::Int64).into(),
        ScalarType::Float32 => [0.0, -0.0, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE]
            .map(V::Float32)
            .into(),
        ScalarType::Float64 => [
            0.0,
            -0.0,
            f64::NAN,
            f64::from_bits(u64::MAX),
            f64::MIN_POSITIVE,
        ]
        .map(V::Float64)
        .into(),
        ScalarType::String => ["", "\0", "a", "é", "日本語"]
            .map(|text| V::String(text.into()))
            .into(),
        ScalarType::Bytes => vec![V::Bytes(vec![]), V::Bytes(vec![0]), V::Bytes(vec![255; 3])],
        ScalarType::Timestamp => [0, -1, i64::MIN, i64::MAX]
            .map(|micros| V::Timestamp(Timestamp::from_micros(micros)))
            .into(),
    }
}

fn feature_type() -> impl Strategy<Value = FeatureType> {
    (
        prop::sample::select(ScalarType::ALL.to_vec()),
        any::<bool>(),
    )
        .prop_map(|(scalar, list)| {
            if list {
                FeatureType::List(scalar)
            } else {
                FeatureType::Scalar(scalar)
            }
        })
}

fn instant() -> impl Strategy<Value = i64> {
    prop::sample::select(vec![i64::MIN, -1, 0, 1, i64::MAX])
}

/// The values of one row, and its time.
pub(crate) type TimedValues = (RowTime, Vec<Option<Value>>);

/// A layout and some rows of it.
pub(crate) fn rows() -> impl Strategy<Value = (Layout, Vec<TimedValues>)> {
    prop::collection::vec(feature_type(), 0..12).prop_flat_map(|types| {
        let values = types
            .iter()
            .map(|&feature_type| value(feature_type))
            .collect::<Vec<_>>();
        let row = (instant(), instant(), values)
            .prop_map(|(event, created, values)| (time(event, created), values));
        let fields = types.into_iter().enumerate().map(|(i, feature_type)| {
            (
                format!("f{i}").parse::<FeatureName>().unwrap(),
                feature_type,
            )
        });
        (
            Just(Layout {
                fields: fields.collect(),
            }),
            prop::collection::vec(row, 1..4),
        )
    })
}

fn batch(layout: &Layout, rows: &[(RowTime, Vec<Option<Value>>)]) -> RecordBatch {
    let fields: Vec<_> = layout
        .fields
        .iter()
        .map(|(name, feature_type)| ArrowField::new(name.as_str(), feature_type.arrow(), true))
        .collect();
    let columns = layout
        .fields
        .iter()
        .enumerate()
        .map(|(i, (_, feature_type))| {
            arrow_values::column(
                *feature_type,
                rows.iter().map(|(_, values)| values[i].as_ref()),
            )
        });
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns.collect(), &options)
        .unwrap()
}

/// What reading says is what packing was given: nothing that is read has another encoding.
fn assert_canonical(layout: &RowLayout, bytes: &[u8]) {
    let Ok(row) = Row::parse(layout, bytes) else {
        return;
    };
    let one_by_one: Vec<_> = (0..layout.len())
        .map(|position| row.value(position))
        .collect();
    if let Ok(values) = row.values() {
        assert_eq!(layout.pack(row.time(), &values).unwrap().as_bytes(), bytes);
        assert_eq!(one_by_one, values.into_iter().map(Ok).collect::<Vec<_>>());
    }
}

proptest! {
    #[test]
    fn rows_come_back_as_they_went_in((layout, rows) in rows(), skip in 0usize..3) {
        let packer = RowLayout::new(&layout);
        let skip = skip.min(rows.len() - 1);
        let batch = batch(&layout, &rows).slice(skip, rows.len() - skip);
        let encoder = RowEncoder::new(&packer, &batch).unwrap();
        for (index, (time, values)) in rows.iter().skip(skip).enumerate() {
            let packed = packer.pack(*time, values).unwrap();
            prop_assert_eq!(&encoder.pack(index, *time).unwrap(), &packed);
            let row = Row::parse(&packer, packed.as_bytes()).unwrap();
            prop_assert_eq!(row.time(), *time);
            // Any order: one feature is read without the others.
            for position in (0..values.len()).rev() {
                prop_assert_eq!(&row.value(position).unwrap(), &values[position]);
            }
            prop_assert_eq!(PackedRow::from_bytes(packed.as_bytes().to_vec()).unwrap(), packed);
        }
    }

    #[test]
    fn damaged_rows_are_errors_or_other_whole_rows(
        (layout, rows) in rows(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in 0usize..6,
        more in prop::collection::vec(any::<u8>(), 0..6),
    ) {
        let layout = RowLayout::new(&layout);
        let mut bytes = layout.pack(rows[0].0, &rows[0].1).unwrap().as_bytes().to_vec();
        // The fingerprint stays, or nothing behind it would be read.
        for (at, with) in damage {
            let at = at.index(bytes.len());
            if !(17..HEADER_BYTES).contains(&at) {
                bytes[at] ^= with;
            }
        }
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        bytes.extend(more);
        assert_canonical(&layout, &bytes);
    }

    #[test]
    fn any_bytes_behind_a_header_are_errors_or_whole_rows((layout, rows) in rows(), body in prop::collection::vec(prop_oneof![Just(0u8), Just(1), 0u8..40, any::<u8>()], 0..120)) {
        let layout = RowLayout::new(&layout);
        let mut bytes = layout.pack(rows[0].0, &rows[0].1).unwrap().as_bytes()[..HEADER_BYTES].to_vec();
        bytes.extend(body);
        assert_canonical(&layout, &bytes);
    }
}
