//! What goes out comes back, and what cannot be is refused.

use proptest::prelude::*;
use vintner_core::{Column, FeatureType, RegistryVersion, ScalarType, Timestamp, Value};
use vintner_ops::api::{
    After, EntityColumn, OnlineColumn, OnlineRequest, OnlineResponse, OnlineView, Status,
};
use vintner_proto::v1::{self, values::Column as Array};
use vintner_registry::selection::{FeatureRequest, NameStyle};

use super::{Travels, values};

/// Boundary values of a type.
fn grid(scalar: ScalarType) -> Vec<Value> {
    match scalar {
        ScalarType::Bool => [true, false].map(Value::Bool).to_vec(),
        ScalarType::Int32 => [0, -1, i32::MIN, i32::MAX].map(Value::Int32).to_vec(),
        ScalarType::Int64 => [0, -1, i64::MIN, i64::MAX].map(Value::Int64).to_vec(),
        ScalarType::Float32 => [0.0, -0.0, f32::NAN, f32::INFINITY, 1.5]
            .map(Value::Float32)
            .to_vec(),
        ScalarType::Float64 => [0.0, -0.0, f64::NAN, f64::NEG_INFINITY, 1.5]
            .map(Value::Float64)
            .to_vec(),
        ScalarType::String => ["", "JFK", "é\u{0}"]
            .map(|text| Value::String(text.to_owned()))
            .to_vec(),
        ScalarType::Bytes => [vec![], vec![0, 255]].map(Value::Bytes).to_vec(),
        ScalarType::Timestamp => [Timestamp::MIN, Timestamp::from_micros(0), Timestamp::MAX]
            .map(Value::Timestamp)
            .to_vec(),
    }
}

fn cell(feature_type: FeatureType) -> BoxedStrategy<Option<Value>> {
    match feature_type {
        FeatureType::Scalar(scalar) => {
            proptest::option::of(proptest::sample::select(grid(scalar))).boxed()
        }
        FeatureType::List(element) => {
            let items = proptest::collection::vec(cell(FeatureType::Scalar(element)), 0..4);
            proptest::option::of(items.prop_map(move |items| Value::List(element, items))).boxed()
        }
    }
}

fn any_type() -> impl Strategy<Value = FeatureType> {
    (
        proptest::sample::select(&ScalarType::ALL[..]),
        any::<bool>(),
    )
        .prop_map(|(scalar, list)| match list {
            true => FeatureType::List(scalar),
            false => FeatureType::Scalar(scalar),
        })
}

fn cells(feature_type: FeatureType, rows: usize) -> impl Strategy<Value = Vec<Option<Value>>> {
    proptest::collection::vec(cell(feature_type), rows)
}

fn column(
    feature_type: impl Strategy<Value = FeatureType>,
    rows: usize,
) -> impl Strategy<Value = Column> {
    feature_type.prop_flat_map(move |feature_type| {
        cells(feature_type, rows)
            .prop_map(move |cells| Column::of(feature_type, cells).expect("cells of the type"))
    })
}

fn online_column(rows: usize, views: usize) -> impl Strategy<Value = OnlineColumn> {
    let statuses = [
        Status::Present,
        Status::NullValue,
        Status::NotFound,
        Status::OutsideMaxAge,
    ];
    (
        column(any_type(), rows),
        proptest::collection::vec(proptest::sample::select(statuses.to_vec()), rows),
        0..views,
    )
        .prop_map(|(values, statuses, view)| OnlineColumn {
            name: values.feature_type().to_string(),
            values,
            statuses,
            view,
        })
}

fn online_view(rows: usize) -> impl Strategy<Value = OnlineView> {
    let times = [None, Some(-1), Some(0), Some(i64::MAX)];
    let times = proptest::collection::vec(proptest::sample::select(times.to_vec()), rows);
    times.prop_map(|times| OnlineView {
        view: "weather@2".parse().unwrap(),
        event_timestamps: times
            .into_iter()
            .map(|micros| micros.map(Timestamp::from_micros))
            .collect(),
    })
}

fn entity_column(rows: usize) -> impl Strategy<Value = EntityColumn> {
    let scalar = proptest::sample::select(&ScalarType::ALL[..]).prop_map(FeatureType::Scalar);
    column(scalar, rows).prop_map(|values| EntityColumn {
        name: "key".to_owned(),
        values,
    })
}

fn entities() -> impl Strategy<Value = Vec<EntityColumn>> {
    (0..4usize).prop_flat_map(|rows| proptest::collection::vec(entity_column(rows), 0..3))
}

fn response() -> impl Strategy<Value = OnlineResponse> {
    (0..4usize).prop_flat_map(|rows| {
        (
            proptest::collection::vec(entity_column(rows), 0..3),
            proptest::collection::vec(online_column(rows, 2), 0..6),
            proptest::collection::vec(online_view(rows), 2),
            any::<u64>(),
        )
            .prop_map(|(entities, features, views, version)| OnlineResponse {
                entities,
                features,
                views,
                registry_version: RegistryVersion(version),
            })
    })
}

/// Through bytes, as over a wire.
fn wire<M: prost::Message + Default>(message: &M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

proptest! {
    #[test]
    fn columns_come_back_with_their_type_and_nulls(
        column in (0..6usize).prop_flat_map(|rows| column(any_type(), rows))
    ) {
        let message = values::encode(column.clone());
        prop_assert_eq!(values::row_count(&message), column.len());
        prop_assert_eq!(values::decode(wire(&message)), Ok(column));
    }

    #[test]
    fn online_requests_come_back(entities in entities(), full in any::<bool>(), service in any::<bool>()) {
        let request = OnlineRequest {
            features: match service {
                true => FeatureRequest::Service("delay_model".parse().unwrap()),
                false => FeatureRequest::Features(vec!["a@2:_b".parse().unwrap(), "c".parse().unwrap()]),
            },
            names: if full { NameStyle::Full } else { NameStyle::Short },
            entities, after: After::default() };
        let message = request.clone().into_message().unwrap();
        prop_assert_eq!(OnlineRequest::from_message(wire(&message)), Ok(request));
    }

    #[test]
    fn online_responses_come_back(response in response()) {
        let message = response.clone().into_message().unwrap();
        prop_assert_eq!(OnlineResponse::from_message(wire(&message)), Ok(response));
    }
}

#[test]
fn columns_that_contradict_themselves_are_refused() {
    let ints = |values: Vec<i64>| Array::Int64s(v1::Int64s { values });
    let lists = |lengths: Vec<u32>, elements: Option<v1::Values>| {
        Array::Lists(Box::new(v1::Lists {
            lengths,
            elements: elements.map(Box::new),
        }))
    };
    let column = |column, nulls: &[u32]| v1::Values {
        column: Some(column),
        nulls: nulls.to_vec(),
    };
    let elements = |n: usize| Some(column(ints(vec![7; n]), &[]));
    let mut refusals = String::new();
    for message in [
        v1::Values::default(),
        column(ints(vec![1, 2]), &[2]),
        column(ints(vec![1, 2]), &[1, 0]),
        column(ints(vec![1, 2]), &[1, 1]),
        column(lists(vec![1], None), &[]),
        column(lists(vec![1], Some(v1::Values::default())), &[]),
        column(lists(vec![1, 2], elements(2)), &[]),
        column(lists(vec![1, 2], elements(4)), &[]),
        column(lists(vec![u32::MAX, u32::MAX], elements(0)), &[]),
        column(lists(vec![1, 1], elements(2)), &[1]),
        column(
            lists(vec![1], Some(column(lists(vec![0], elements(0)), &[]))),
            &[],
        ),
    ] {
        refusals.push_str(&format!("{}\n", values::decode(message).unwrap_err()));
    }
    insta::assert_snapshot!(refusals, @r"
    a column has none of its arrays set, so it has no type
    nulls: names the row 2, but there are 2 rows
    nulls: does not ascend
    nulls: does not ascend
    elements: must be set
    a column has none of its arrays set, so it has no type
    `lengths` adds up to 3, but there are 2 elements
    `lengths` adds up to 3, but there are 4 elements
    `lengths` adds up to 8589934590, but there are 0 elements
    `lengths` gives a null row elements
    `elements` is a column of lists; a list's element is never a list itself
    ");
}

#[test]
fn answers_that_contradict_themselves_are_refused() {
    let whole = OnlineResponse {
        entities: vec![],
        features: vec![OnlineColumn {
            name: "temp".to_owned(),
            values: Column::of(
                FeatureType::Scalar(ScalarType::Int32),
                [Some(Value::Int32(1))],
            )
            .unwrap(),
            statuses: vec![Status::Present],
            view: 0,
        }],
        views: vec![OnlineView {
            view: "weather@2".parse().unwrap(),
            event_timestamps: vec![None],
        }],
        registry_version: RegistryVersion(1),
    };
    let whole = whole.into_message().unwrap();
    let mut refusals = String::new();
    let breaks: [fn(&mut v1::GetOnlineFeaturesResponse); 7] = [
        |m| m.features[0].values = None,
        |m| m.features[0].statuses = vec![0],
        |m| m.features[0].statuses = vec![9],
        |m| m.features[0].statuses = vec![],
        |m| m.features[0].event_timestamps = 1,
        |m| m.event_timestamps[0].none = vec![3],
        |m| m.event_timestamps[0].view = "weather".to_owned(),
    ];
    for break_it in breaks {
        let mut message = whole.clone();
        break_it(&mut message);
        let error = OnlineResponse::from_message(message).unwrap_err();
        refusals.push_str(&format!("{error}\n"));
    }
    insta::assert_snapshot!(refusals, @r"
    features[0].values: must be set
    features[0].statuses[0]: must be set
    features[0].statuses[0]: the number 9 is no feature status that this version knows
    features[0]: there are 1 values, 0 statuses and 1 event timestamps
    features[0].event_timestamps: there are no such event timestamps
    event_timestamps[0].none: names the row 3, but there are 1 rows
    event_timestamps[0].view: `weather` names no version; write `view@version`
    ");
}
