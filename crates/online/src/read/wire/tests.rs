//! What prost reads from the bytes is what the columns hold.

use proptest::prelude::*;
use prost::Message as _;
use vintner_proto::v1::{self, values::Column as Array};

use super::*;
use crate::{
    EntityKeys, Found, OnlineColumn, OnlineFeatures, OnlineRow,
    read::keys::Distinct,
    row::tests::{TimedValues, rows, value},
    tests::{key, plan, revision, us},
};
use bytes::Bytes;
use vintner_core::{FeatureField, Ttl};
use vintner_registry::model::{Layout, ViewRevision};

/// The column of a message, read as the protocol says.
fn column(values: v1::Values) -> Column {
    let array = match values.column.unwrap() {
        Array::Bools(v) => ColumnValues::Bool(v.values),
        Array::Int32s(v) => ColumnValues::Int32(v.values),
        Array::Int64s(v) => ColumnValues::Int64(v.values),
        Array::Float32s(v) => ColumnValues::Float32(v.values),
        Array::Float64s(v) => ColumnValues::Float64(v.values),
        Array::Strings(v) => ColumnValues::String(v.values),
        Array::ByteStrings(v) => ColumnValues::Bytes(v.values),
        Array::Timestamps(v) => ColumnValues::Timestamp(v.micros.into_iter().map(us).collect()),
        Array::Lists(v) => ColumnValues::List {
            lengths: v.lengths,
            elements: Box::new(column(*v.elements.unwrap())),
        },
    };
    Column::new(array, values.nulls).unwrap()
}

fn status(number: i32) -> Status {
    match v1::FeatureStatus::try_from(number).unwrap() {
        v1::FeatureStatus::Present => Status::Present,
        v1::FeatureStatus::NullValue => Status::NullValue,
        v1::FeatureStatus::NotFound => Status::NotFound,
        v1::FeatureStatus::OutsideMaxAge => Status::OutsideMaxAge,
        v1::FeatureStatus::Unspecified => panic!("no status"),
    }
}

fn features(message: v1::GetOnlineFeaturesResponse, views: &[&ViewRevision]) -> OnlineFeatures {
    let names: Vec<_> = message.event_timestamps.iter().map(|t| &t.view).collect();
    let ids: Vec<_> = views.iter().map(|view| view.id.to_string()).collect();
    assert_eq!(names, ids.iter().collect::<Vec<_>>());
    OnlineFeatures {
        columns: message
            .features
            .into_iter()
            .map(|feature| OnlineColumn {
                name: feature.name,
                values: column(feature.values.unwrap()),
                statuses: feature.statuses.into_iter().map(status).collect(),
                view: feature.event_timestamps as usize,
            })
            .collect(),
        event_timestamps: message
            .event_timestamps
            .into_iter()
            .map(|times| {
                let rows = (0_u32..).zip(times.micros);
                rows.map(|(row, micros)| (!times.none.contains(&row)).then(|| us(micros)))
                    .collect()
            })
            .collect(),
    }
}

/// A view with these features, of which every second has a default.
fn view(id: &str, layout: &Layout, ttl: Option<Ttl>, defaults: &[Option<Value>]) -> ViewRevision {
    let features: Vec<_> = layout
        .fields
        .iter()
        .zip(defaults)
        .map(|((name, feature_type), default)| FeatureField {
            name: name.clone(),
            feature_type: *feature_type,
            default: default.clone(),
            description: String::new(),
        })
        .collect();
    revision(id, &features, ttl)
}

fn packed_rows(view: &ViewRevision, rows: &[TimedValues]) -> Vec<Option<Bytes>> {
    let rows = rows.iter().map(|(time, values)| {
        let OnlineRow { row, .. } = crate::tests::row(view, "x", *time, values);
        Some(Bytes::copy_from_slice(row.as_bytes()))
    });
    rows.chain([None]).collect()
}

type Case = ((Layout, Vec<TimedValues>), Vec<Option<Value>>);

/// Rows of a view, and a default for some of its features.
fn case() -> impl Strategy<Value = Case> {
    rows().prop_flat_map(|(layout, rows)| {
        let defaults: Vec<_> = layout.fields.iter().map(|(_, kind)| value(*kind)).collect();
        (Just((layout, rows)), defaults)
    })
}

proptest! {
    #[test]
    fn bytes_and_columns_say_the_same(
        one in case(),
        two in case(),
        picks in prop::collection::vec(prop::option::of(0_usize..5), 0..200),
        now in prop::sample::select(vec![i64::MIN, -1, 0, 1, i64::MAX]),
        ttl in prop::sample::select(vec![None, Ttl::from_micros(1), Ttl::from_micros(u64::MAX / 4)]),
    ) {
        let views = [("one@1", &one), ("two@12", &two)]
            .map(|(id, ((layout, _), defaults))| view(id, layout, ttl, defaults));
        let views: Vec<_> = views.iter().collect();
        let plan = plan(&views);
        let project = "project".parse().unwrap();
        let mut found = Found { distinct: vec![], rows: vec![], now: us(now) };
        for (view, ((_, rows), _)) in views.iter().zip([&one, &two]) {
            let rows = packed_rows(view, rows);
            let keys: EntityKeys = picks
                .iter()
                .map(|pick| pick.map(|pick| key(&(pick % rows.len()).to_string())))
                .collect();
            let distinct = Distinct::of(keys);
            // Each distinct key has the row of its number.
            let of_key = distinct.keys.iter().map(|wanted| {
                let at = (0..rows.len()).find(|at| key(&at.to_string()) == *wanted).unwrap();
                rows[at].clone()
            });
            found.rows.push(of_key.collect());
            found.distinct.push(distinct);
        }
        let want = found.columns(&project, &plan).unwrap();
        let (mut encoded, counts) = found.encode(&project, &plan).unwrap();
        prop_assert_eq!(&counts, &want.status_counts());
        for column in &want.columns {
            encoded.entities(&column.name, &column.values).unwrap();
        }
        let bytes = encoded.finish(RegistryVersion(u64::MAX));
        let message = v1::GetOnlineFeaturesResponse::decode(bytes.as_slice()).unwrap();
        // Nothing is in the bytes that a message does not have, and nothing is longer than it must be.
        prop_assert_eq!(message.encoded_len(), bytes.len());
        prop_assert_eq!(message.registry_version, u64::MAX);
        for (entity, wanted) in message.entities.iter().zip(&want.columns) {
            prop_assert_eq!(&entity.name, &wanted.name);
            prop_assert_eq!(&column(entity.values.clone().unwrap()), &wanted.values);
        }
        prop_assert_eq!(message.entities.len(), want.columns.len());
        prop_assert_eq!(features(message, &views), want);
    }
}

#[test]
fn a_number_takes_as_many_bytes_as_prost_gives_it() {
    for shift in 0..64 {
        for number in [
            1_u64 << shift,
            (1_u64 << shift) - 1,
            (1_u64 << shift) + 1,
            u64::MAX >> shift,
        ] {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            varint(&mut ours, number);
            prost::encoding::encode_varint(number, &mut theirs);
            assert_eq!(ours, theirs, "{number}");
            assert_eq!(varint_length(number), theirs.len(), "{number}");
        }
    }
}
