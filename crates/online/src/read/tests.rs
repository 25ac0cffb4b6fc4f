use vintner_core::{FeatureType, ScalarType, Ttl, Value as V};
use vintner_registry::model::ViewRevision;

use super::*;
use crate::{
    EmbeddedStore, OnlineRow,
    row::{PackedRow, RowLayout},
    tests::{chain, feature, get_features, key, plan, revision, row, time, us},
};

const NOW: i64 = 1_000;

fn project() -> ProjectName {
    "project".parse().unwrap()
}

fn ttl(micros: u64) -> Option<Ttl> {
    Ttl::from_micros(micros)
}

async fn store_with(
    rows: &[(&ViewRevision, Vec<OnlineRow>)],
) -> (tempfile::TempDir, EmbeddedStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(folder.path()).await.unwrap();
    for (revision, rows) in rows {
        store
            .write(&project(), &revision.id, None, rows)
            .await
            .unwrap();
    }
    (folder, store)
}

fn keys(ids: &[&str]) -> EntityKeys {
    ids.iter().map(|id| Some(key(id))).collect()
}

/// One line per cell.
fn shown(features: &OnlineFeatures) -> String {
    let mut lines = Vec::new();
    for column in &features.columns {
        let events = &features.event_timestamps[column.view];
        for ((value, status), event) in column.values.iter().zip(&column.statuses).zip(events) {
            let value = value.map_or("null".to_owned(), |value| value.to_string());
            let event = event.map_or("never".to_owned(), |event| event.micros().to_string());
            lines.push(format!("{} {value} {} {event}", column.name, status.name()));
        }
    }
    lines.join("\n")
}

#[tokio::test]
async fn the_status_says_what_was_found_and_only_what_counts_has_a_value() {
    use Status::{NotFound, NullValue, OutsideMaxAge, Present};
    for (ttl, event, value, want) in [
        (ttl(10), NOW, Some(7), Present),
        (ttl(10), NOW + 1, Some(7), NotFound), // not true yet
        (ttl(10), NOW - 10, Some(7), Present), // as old as allowed
        (ttl(10), NOW - 11, Some(7), OutsideMaxAge),
        (ttl(10), NOW - 10, None, NullValue),
        (ttl(10), NOW - 11, None, OutsideMaxAge),
        (ttl(10), NOW + 1, None, NotFound),
        (None, i64::MIN, Some(7), Present),
        (ttl(Ttl::LONGEST_MICROS), i64::MIN, Some(7), OutsideMaxAge),
        (None, i64::MAX, Some(7), NotFound),
    ] {
        let view = revision("view@1", &[feature("value", "int32")], ttl);
        let rows = vec![row(&view, "x", time(event, 0), &[value.map(V::Int32)])];
        let (_folder, store) = store_with(&[(&view, rows)]).await;
        let got = get_features(
            &store,
            &project(),
            &plan(&[&view]),
            vec![keys(&["x"])],
            us(NOW),
            false,
        )
        .await
        .unwrap();
        let column = &got.columns[0];
        let case = format!("ttl {ttl:?} event {event} value {value:?}");
        assert_eq!(column.statuses, [want], "{case}");
        assert_eq!(
            column.values.iter().collect::<Vec<_>>(),
            [(want == Present).then_some(V::Int32(7))],
            "{case}"
        );
        assert_eq!(
            got.event_timestamps,
            [[(want != NotFound).then_some(us(event))]],
            "{case}"
        );
    }
}

#[tokio::test]
async fn entities_keep_their_order_and_their_duplicates() {
    let one = revision(
        "one@1",
        &[feature("a", "int32"), feature("b", "string")],
        None,
    );
    let two = revision("two@1", &[feature("c", "list<int32>")], ttl(10));
    let text = |text: &str| Some(V::String(text.into()));
    let list = V::List(ScalarType::Int32, vec![Some(V::Int32(1)), None]);
    let (_folder, store) = store_with(&[
        (
            &one,
            vec![
                row(&one, "x", time(1, 0), &[Some(V::Int32(1)), text("one")]),
                row(&one, "y", time(2, 0), &[None, text("two")]),
            ],
        ),
        (&two, vec![row(&two, "y", time(NOW, 0), &[Some(list)])]),
    ])
    .await;
    let mut entities = vec![keys(&["y", "x", "y", "z"]), keys(&["x", "y", "y", "y"])];
    entities[0].push(None);
    entities[1].push(None);
    let got = get_features(
        &store,
        &project(),
        &plan(&[&one, &two]),
        entities,
        us(NOW),
        false,
    )
    .await
    .unwrap();
    insta::assert_snapshot!(shown(&got));
}

#[tokio::test]
async fn a_default_takes_the_place_of_what_does_not_count_and_the_status_tells() {
    let mut value = feature("value", "int32");
    value.default = Some(V::Int32(-1));
    let view = revision("view@1", &[value], ttl(10));
    let (_folder, store) = store_with(&[(
        &view,
        vec![
            row(&view, "present", time(NOW, 0), &[Some(V::Int32(7))]),
            row(&view, "null", time(NOW, 0), &[None]),
            row(&view, "expired", time(0, 0), &[Some(V::Int32(7))]),
            row(&view, "future", time(NOW + 1, 0), &[Some(V::Int32(7))]),
        ],
    )])
    .await;
    let mut entities = keys(&["present", "null", "expired", "future", "missing"]);
    entities.push(None);
    let got = get_features(
        &store,
        &project(),
        &plan(&[&view]),
        vec![entities],
        us(NOW),
        false,
    )
    .await
    .unwrap();
    insta::assert_snapshot!(shown(&got));
}

#[tokio::test]
async fn a_feature_that_the_row_was_written_without_is_not_found() {
    let mut new = feature("new", "int32");
    new.default = Some(V::Int32(-1));
    let mut view = revision("view@1", &[new, feature("old", "int32")], ttl(10));
    let older = vintner_registry::model::Layout::of(&[feature("old", "int32")]);
    view.layouts.insert(0, older.clone());
    let old_row = |id, event| OnlineRow {
        key: key(id),
        row: RowLayout::new(&older)
            .pack(time(event, 0), &[Some(V::Int32(7))])
            .unwrap(),
    };
    let rows = vec![old_row("counts", NOW), old_row("expired", 0)];
    let (_folder, store) = store_with(&[(&view, rows)]).await;
    let got = get_features(
        &store,
        &project(),
        &plan(&[&view]),
        vec![keys(&["counts", "expired"])],
        us(NOW),
        false,
    )
    .await
    .unwrap();
    insta::assert_snapshot!(shown(&got));
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_an_error_that_names_it() {
    let view = revision("view@1", &[feature("name", "string")], ttl(10));
    let newer = RowLayout::new(&vintner_registry::model::Layout::of(&[
        feature("name", "string"),
        feature("more", "int32"),
    ]));
    let good = row(&view, "x", time(NOW, 0), &[Some(V::String("é".into()))]);
    let mut cut = good.row.as_bytes().to_vec();
    cut.pop();
    let mut not_text = good.row.as_bytes().to_vec();
    *not_text.last_mut().unwrap() = 0xff;
    let mut messages = Vec::new();
    for bytes in [
        newer
            .pack(time(NOW, 0), &[None, None])
            .unwrap()
            .as_bytes()
            .to_vec(),
        cut,
        not_text,
    ] {
        let rows = vec![
            good.clone(),
            OnlineRow {
                key: key("damaged"),
                row: PackedRow::from_bytes(bytes).unwrap(),
            },
        ];
        let (_folder, store) = store_with(&[(&view, rows)]).await;
        let plan = plan(&[&view]);
        let err = get_features(
            &store,
            &project(),
            &plan,
            vec![keys(&["x", "damaged"])],
            us(NOW),
            false,
        )
        .await
        .unwrap_err();
        messages.push(chain(&err));
        // Nobody else is hurt.
        get_features(
            &store,
            &project(),
            &plan,
            vec![keys(&["x"])],
            us(NOW),
            false,
        )
        .await
        .unwrap();
    }
    insta::assert_snapshot!(messages.join("\n"));
}

#[tokio::test]
async fn every_view_must_be_given_every_entity() {
    let one = revision("one@1", &[feature("a", "int32")], None);
    let two = revision("two@1", &[feature("b", "int32")], None);
    let (_folder, store) = store_with(&[]).await;
    let plan = plan(&[&one, &two]);
    for entities in [
        vec![keys(&["x"])],
        vec![keys(&["x"]), keys(&[])],
        vec![keys(&["x"]), keys(&["x", "y"])],
    ] {
        let err = get_features(&store, &project(), &plan, entities, us(NOW), false)
            .await
            .unwrap_err();
        assert!(matches!(err, OnlineError::EntityCount { .. }), "{err:?}");
    }
    let nobody = get_features(
        &store,
        &project(),
        &plan,
        vec![vec![], vec![]],
        us(NOW),
        false,
    )
    .await
    .unwrap();
    assert!(nobody.columns.iter().all(|column| column.values.is_empty()));
}

#[test]
fn entities_are_keyed_by_the_values_of_their_join_keys() {
    let view = revision("view@1", &[], None);
    let text = |id: &str| Some(V::String(id.into()));
    let string = FeatureType::Scalar(ScalarType::String);
    let ids = Column::of(string, [text("a"), None, text("a\0b")]).unwrap();
    assert_eq!(
        view_keys(&view, &[&ids], 3).unwrap(),
        [Some(key("a")), None, Some(key("a\0b"))]
    );
    let numbers = Column::of(FeatureType::Scalar(ScalarType::Int64), [Some(V::Int64(1))]).unwrap();
    let missing = view_keys(&view, &[], 1).unwrap_err();
    let wrong = view_keys(&view, &[&numbers], 1).unwrap_err();
    insta::assert_snapshot!(format!("{}\n{}", chain(&missing), chain(&wrong)), @r"
    the entities do not fit view@1: 0 values for 1 join keys
    the entities do not fit view@1: the column of the string join key `id` has the type Int64
    ");
}
