//! Datasets are kept whole, or not at all, and their hashes are of the rows alone.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array,
        Int64Builder, LargeStringArray, ListArray, MapBuilder, RecordBatch, StringArray,
        StringBuilder, StringViewArray, StructArray, TimestampMicrosecondArray, new_null_array,
    },
    compute::concat_batches,
    datatypes::{DataType, Field, Int32Type, Int64Type, Schema},
};
use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
use vintner_core::{Boundary, DatasetName, Knowledge, RegistryVersion, Timestamp};
use vintner_registry::selection::{FeatureRequest, NameStyle};

use super::*;
use crate::{
    delta::{OfflineStore, faulty::FaultyStore},
    historical::Split,
};

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields = columns.iter().map(|(name, column)| {
        let data_type = column.data_type().clone();
        Field::new(*name, data_type, true)
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

/// Columns of many kinds, with nulls, whose dictionary is made for just these rows.
fn rows(from: i64, to: i64) -> RecordBatch {
    let numbers = || from..to;
    let texts = || numbers().map(|i| (i % 3 != 0).then(|| format!("text {i}")));
    let lists = numbers().map(|i| (i % 4 != 0).then(|| (0..i % 3).map(|j| (j != 1).then_some(j))));
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    for i in numbers() {
        for j in 0..i % 3 {
            map.keys().append_value(format!("k{j}"));
            map.values().append_value(i);
        }
        map.append(i % 5 != 0).unwrap();
    }
    let inner: ArrayRef = Arc::new(Int32Array::from_iter(
        numbers().map(|i| (i % 2 == 0).then_some(i32::try_from(i).unwrap())),
    ));
    let text: ArrayRef = Arc::new(StringArray::from_iter(texts()));
    let fields = vec![
        (Arc::new(Field::new("a", DataType::Int32, true)), inner),
        (
            Arc::new(Field::new("b", DataType::Utf8, true)),
            Arc::clone(&text),
        ),
    ];
    let kinds: Vec<Option<String>> = numbers().map(|i| Some(format!("kind {}", i % 2))).collect();
    let kinds: DictionaryArray<Int32Type> = kinds.iter().map(Option::as_deref).collect();
    let at = TimestampMicrosecondArray::from_iter(numbers().map(|i| (i % 7 != 0).then_some(i)));
    batch(vec![
        ("key", Arc::new(Int64Array::from_iter_values(numbers()))),
        ("at", Arc::new(at.with_timezone("UTC"))),
        (
            "score",
            Arc::new(Float64Array::from_iter(
                numbers().map(|i| (i % 5 != 0).then_some(i as f64 / 3.0)),
            )),
        ),
        (
            "is_late",
            Arc::new(BooleanArray::from_iter(
                numbers().map(|i| (i % 6 != 0).then_some(i % 2 == 0)),
            )),
        ),
        ("text", text),
        ("kind", Arc::new(kinds)),
        (
            "list",
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists)),
        ),
        ("map", Arc::new(map.finish())),
        ("struct", Arc::new(StructArray::from(fields))),
        (
            "nothing",
            new_null_array(&DataType::Null, numbers().count()),
        ),
    ])
}

fn hash(batches: &[RecordBatch]) -> ContentHash {
    let mut hasher = RowsHasher::new(&batches[0].schema()).unwrap();
    batches
        .iter()
        .for_each(|batch| hasher.update(batch).unwrap());
    hasher.finish()
}

#[test]
fn a_hash_does_not_depend_on_batches() {
    let whole = rows(0, 100);
    let want = hash(std::slice::from_ref(&whole));
    for cut in [0, 1, 7, 50, 99, 100] {
        let (first, rest) = (whole.slice(0, cut), whole.slice(cut, 100 - cut));
        assert_eq!(hash(&[first, rest]), want, "cut after {cut}");
        let cut = i64::try_from(cut).unwrap();
        assert_eq!(
            hash(&[rows(0, cut), rows(cut, 100)]),
            want,
            "made in two, {cut}"
        );
    }
    let one_by_one: Vec<_> = (0..100).map(|i| rows(i, i + 1)).collect();
    assert_eq!(hash(&one_by_one), want);
    let together = concat_batches(&whole.schema(), &one_by_one).unwrap();
    assert_eq!(hash(&[together]), want);
}

#[test]
fn a_hash_does_not_depend_on_how_text_is_laid_out() {
    let values = vec![Some("a"), None, Some("bc")];
    let dictionary: DictionaryArray<Int32Type> = values.clone().into_iter().collect();
    let columns: [ArrayRef; 4] = [
        Arc::new(StringArray::from(values.clone())),
        Arc::new(LargeStringArray::from(values.clone())),
        Arc::new(StringViewArray::from(values)),
        Arc::new(dictionary),
    ];
    let hashes = columns.map(|column| hash(&[batch(vec![("t", column)])]));
    assert!(hashes.iter().all(|found| *found == hashes[0]), "{hashes:?}");
}

#[test]
fn a_hash_tells_rows_apart() {
    let text =
        |values: &[Option<&str>]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
    let int: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let cases = [
        batch(vec![("t", text(&[Some("a"), Some("bc")]))]),
        batch(vec![("t", text(&[Some("ab"), Some("c")]))]),
        batch(vec![("t", text(&[Some("bc"), Some("a")]))]),
        batch(vec![("u", text(&[Some("a"), Some("bc")]))]),
        batch(vec![("t", text(&[Some("a"), None]))]),
        batch(vec![("t", text(&[None, Some("a")]))]),
        batch(vec![("t", text(&[Some("a"), Some("")]))]),
        batch(vec![("t", text(&[Some("a")]))]),
        batch(vec![("t", text(&[]))]),
        batch(vec![("t", Arc::clone(&int))]),
        batch(vec![(
            "t",
            Arc::new(TimestampMicrosecondArray::from(vec![1, 2])),
        )]),
        batch(vec![("t", Arc::new(Float64Array::from(vec![0.0])))]),
        batch(vec![("t", Arc::new(Float64Array::from(vec![-0.0])))]),
        batch(vec![("t", Arc::clone(&int)), ("u", int)]),
    ];
    for (i, one) in cases.iter().enumerate() {
        for (j, other) in cases.iter().enumerate() {
            let (a, b) = (
                hash(std::slice::from_ref(one)),
                hash(std::slice::from_ref(other)),
            );
            assert_eq!(a == b, i == j, "cases {i} and {j}");
        }
    }
}

/// Manifests keep hashes: the same rows must have the same hash in every later version. The hash was computed apart, from the
/// description in `content_hash`.
#[test]
fn a_hash_stays_what_it_was() {
    let at = TimestampMicrosecondArray::from(vec![0, 1, 2]).with_timezone("UTC");
    let lists = [Some(vec![Some(5), None]), None, Some(vec![])];
    let rows = batch(vec![
        (
            "n",
            Arc::new(Int64Array::from(vec![Some(7), None, Some(-1)])),
        ),
        (
            "t",
            Arc::new(StringArray::from(vec![Some("a"), Some(""), None])),
        ),
        ("at", Arc::new(at)),
        (
            "b",
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        ),
        (
            "l",
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists)),
        ),
    ]);
    let found = hash(&[rows]).to_string();
    insta::assert_snapshot!(found, @"blake3:3bdc14e296a50b40e88ac35e932668147c8fff1bd8070a51075c44e69139eb39");
    assert_eq!(found.parse::<ContentHash>().unwrap().to_string(), found);
    assert!("blake3:12".parse::<ContentHash>().is_err());
}

#[test]
fn a_column_without_a_canonical_form_is_refused() {
    let item = Arc::new(Field::new("item", DataType::Int32, true));
    let schema = Schema::new(vec![Field::new("u", DataType::ListView(item), true)]);
    let error = RowsHasher::new(&schema).unwrap_err().to_string();
    let told = "a dataset with the column `u` of type ListView";
    assert!(
        error.starts_with(told) && error.ends_with("cast it to a plain type"),
        "{error}"
    );
}

struct World {
    objects: Arc<InMemory>,
    datasets: Datasets,
}

fn world() -> World {
    let objects = Arc::new(InMemory::new());
    let datasets = over(objects.clone());
    World { objects, datasets }
}

fn over(objects: Arc<dyn ObjectStore>) -> Datasets {
    let store = OfflineStore::over(objects, "memory:///offline".parse().unwrap());
    Datasets::of(&store, &"flights".parse().unwrap()).unwrap()
}

fn name(text: &str) -> DatasetName {
    text.parse().unwrap()
}

async fn keep(datasets: &Datasets, name: &DatasetName) -> Result<KeptRows, DatasetError> {
    let mut writer = KeptRowsWriter::new(datasets, name, &rows(0, 0).schema())?;
    for (from, to) in [(0, 10), (10, 11), (11, 40)] {
        writer.write(&rows(from, to)).await?;
    }
    writer.finish().await
}

async fn save(datasets: &Datasets, name: &DatasetName) -> Result<Dataset, DatasetError> {
    let entity_rows = keep(datasets, name).await?;
    let dataset = Dataset {
        name: name.clone(),
        created_at: Timestamp::from_micros(1_700_000_000_000_000),
        author: "ann".to_owned(),
        registry_version: RegistryVersion(3),
        selection: FeatureRequest::Features(vec!["weather@2:temp".parse().unwrap()]),
        names: NameStyle::Full,
        knowledge: Knowledge::Available,
        boundary: Boundary::Before,
        timestamp_column: Some("at".to_owned()),
        split: Some(Split::new("train=0.8,test=0.2", None).unwrap()),
        tables: vec![
            TableRead {
                view: "weather@2".parse().unwrap(),
                delta_version: Some(7),
                delta_id: Some("an-id".to_owned()),
            },
            TableRead {
                view: "delays@1".parse().unwrap(),
                delta_version: None,
                delta_id: None,
            },
        ],
        result: ResultRows {
            rows: entity_rows.rows,
            hash: entity_rows.hash,
        },
        entity_rows,
    };
    datasets.save(&dataset).await?;
    Ok(dataset)
}

#[tokio::test]
async fn a_saved_dataset_comes_back_with_its_rows() {
    let World { datasets, .. } = world();
    assert_eq!(datasets.list().await.unwrap(), []);
    let saved = save(&datasets, &name("b")).await.unwrap();
    let other = save(&datasets, &name("a")).await.unwrap();
    assert_eq!(datasets.get(&name("b")).await.unwrap(), saved);
    assert_eq!(datasets.list().await.unwrap(), [other, saved.clone()]);
    assert_eq!(
        datasets.pins().await.unwrap(),
        [("weather@2".parse().unwrap(), 7)]
    );
    let (schema, kept) = datasets.entity_rows(&saved).await.unwrap();
    let kept: Vec<_> = kept.try_collect().await.unwrap();
    assert_eq!(schema, rows(0, 0).schema());
    assert_eq!(kept, [rows(0, 10), rows(10, 11), rows(11, 40)]);
    let unknown = datasets.get(&name("bb")).await.unwrap_err();
    insta::assert_snapshot!(unknown, @"there is no dataset `bb`; did you mean `b`?");
}

#[tokio::test]
async fn a_manifest_says_how_a_dataset_was_made() {
    let World { objects, datasets } = world();
    let mut dataset = save(&datasets, &name("delays_2013")).await.unwrap();
    let path = Path::from("offline/flights/_datasets/delays_2013/manifest.json");
    let bytes = objects.get(&path).await.unwrap().bytes().await.unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let text = text.replace(&dataset.entity_rows.file, "[file]");
    let text = text.replace(&dataset.entity_rows.hash.to_string(), "[hash]");
    let text = text.replace(&dataset.entity_rows.bytes.to_string(), "[bytes]");
    insta::assert_snapshot!(text, @r#"
    {
      "format": 1,
      "name": "delays_2013",
      "created_at": "2023-11-14T22:13:20Z",
      "author": "ann",
      "registry_version": 3,
      "selection": {
        "features": [
          "weather@2:temp"
        ]
      },
      "names": "full",
      "knowledge": "available",
      "boundary": "before",
      "timestamp_column": "at",
      "split": {
        "parts": "train=0.8,test=0.2",
        "by": null
      },
      "tables": [
        {
          "view": "weather@2",
          "delta_version": 7,
          "delta_id": "an-id"
        },
        {
          "view": "delays@1",
          "delta_version": null,
          "delta_id": null
        }
      ],
      "entity_rows": {
        "file": "[file]",
        "bytes": [bytes],
        "rows": 40,
        "hash": "[hash]"
      },
      "result": {
        "rows": 40,
        "hash": "[hash]"
      }
    }
    "#);
    dataset.selection = FeatureRequest::Service("delay_model".parse().unwrap());
    let json = serde_json::to_value(&dataset).unwrap();
    assert_eq!(
        json["selection"],
        serde_json::json!({"service": "delay_model"})
    );
    assert_eq!(serde_json::from_value::<Dataset>(json).unwrap(), dataset);
}

#[tokio::test]
async fn a_name_is_given_once() {
    let World { objects, datasets } = world();
    let name = name("once");
    datasets.check_free(&name).await.unwrap();
    let races = (0..4).map(|_| save(&datasets, &name));
    let saved = futures::future::join_all(races).await;
    let (won, lost): (Vec<_>, Vec<_>) = saved.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 3));
    let refused = datasets.check_free(&name).await.unwrap_err();
    insta::assert_snapshot!(refused, @"there is already a dataset `once`, saved at 2023-11-14T22:13:20Z by ann; datasets never change, so choose another name");
    for error in lost {
        assert_eq!(error.unwrap_err().to_string(), refused.to_string());
    }
    let left: Vec<_> = objects.list(None).try_collect().await.unwrap();
    assert_eq!(
        left.len(),
        2,
        "the entity rows of those who lost stay behind: {left:?}"
    );
}

#[tokio::test]
async fn a_save_that_dies_leaves_no_dataset() {
    for writes in 0.. {
        let objects = Arc::new(InMemory::new());
        let faulty = FaultyStore::after(writes, objects.clone());
        let died = save(&over(Arc::new(faulty)), &name("d")).await.is_err();
        let datasets = over(objects);
        if !died {
            let dataset = datasets.get(&name("d")).await.unwrap();
            assert_eq!(
                datasets.gone(&dataset).await.unwrap().len(),
                1,
                "only the table"
            );
            break;
        }
        assert_eq!(
            datasets.list().await.unwrap(),
            [],
            "died after {writes} writes"
        );
        save(&datasets, &name("d")).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_gone_is_told() {
    let World { objects, datasets } = world();
    let dataset = save(&datasets, &name("d")).await.unwrap();
    let file = &dataset.entity_rows.file;
    let path = Path::from("offline/flights/_datasets/d").join(file.as_str());
    objects.delete(&path).await.unwrap();
    let gone = datasets.gone(&dataset).await.unwrap();
    let error = DatasetError::Gone {
        name: name("d"),
        gone,
    };
    insta::assert_snapshot!(error.to_string().replace(file, "[file]"), @"
    the dataset `d` cannot be made again:
    - its entity rows are gone: there is no `[file]` in its folder
    - version 7 of the table of weather@2 is not in its log any more
    ");
}

#[tokio::test]
async fn kept_rows_that_were_changed_are_not_taken_for_those_that_were_saved() {
    let World { objects, datasets } = world();
    let dataset = save(&datasets, &name("d")).await.unwrap();
    let other = {
        let mut writer = KeptRowsWriter::new(&datasets, &name("d"), &rows(0, 0).schema()).unwrap();
        writer.write(&rows(1, 41)).await.unwrap();
        writer.finish().await.unwrap()
    };
    let folder = Path::from("offline/flights/_datasets/d");
    let (from, to) = (
        folder.clone().join(other.file.as_str()),
        folder.join(dataset.entity_rows.file.as_str()),
    );
    let whole = objects.get(&from).await.unwrap().bytes().await.unwrap();
    for bytes in [
        whole.clone(),
        whole.slice(..whole.len() / 2),
        whole.slice(..3),
    ] {
        objects.put(&to, bytes.into()).await.unwrap();
        let read = async {
            let (_, rows) = datasets.entity_rows(&dataset).await?;
            rows.try_collect::<Vec<_>>().await
        };
        let error = read.await.unwrap_err().to_string();
        assert!(error.contains("kept entity rows"), "{error}");
    }
}

#[tokio::test]
async fn a_manifest_that_cannot_be_read_is_told() {
    let World { objects, datasets } = world();
    save(&datasets, &name("d")).await.unwrap();
    let path = Path::from("offline/flights/_datasets/d/manifest.json");
    let good = objects.get(&path).await.unwrap().bytes().await.unwrap();
    let good = String::from_utf8(good.to_vec()).unwrap();
    let mut told = Vec::new();
    for text in [
        good.replace("\"format\": 1", "\"format\": 2"),
        good.replace("\"name\": \"d\"", "\"name\": \"e\""),
        good.replace("blake3:", "md5:"),
        String::new(),
    ] {
        objects.put(&path, text.into()).await.unwrap();
        let error = datasets.list().await.unwrap_err();
        assert!(datasets.pins().await.is_err());
        let cause = std::error::Error::source(&error).unwrap();
        let cause = cause.to_string();
        told.push(format!(
            "{error}: {}",
            cause.split(" at line").next().unwrap()
        ));
    }
    let told = told.join("\n");
    let hash = told
        .split('`')
        .find(|part| part.starts_with("md5:"))
        .unwrap();
    insta::assert_snapshot!(told.replace(hash, "[hash]"), @"
    the manifest of the dataset `d` at memory:///offline/flights/_datasets/ cannot be read: it is of format 2, and this version reads up to 1; use a newer Vintner
    the manifest of the dataset `d` at memory:///offline/flights/_datasets/ cannot be read: it is of the dataset `e`: it was copied or renamed
    the manifest of the dataset `d` at memory:///offline/flights/_datasets/ cannot be read: `[hash]` is no hash of rows, which is `blake3:` and 64 hexadecimal digits
    the manifest of the dataset `d` at memory:///offline/flights/_datasets/ cannot be read: EOF while parsing a value
    ");
}

#[tokio::test]
async fn entity_rows_of_a_save_that_died_go_when_it_can_no_longer_end() {
    const DAY: i64 = 24 * 3_600_000_000;
    let World { objects, datasets } = world();
    let saved = save(&datasets, &name("d")).await.unwrap();
    // One died before it could be saved, another one under a name that is taken.
    for name in [name("died"), name("d")] {
        let mut writer = KeptRowsWriter::new(&datasets, &name, &rows(0, 0).schema()).unwrap();
        writer.write(&rows(0, 9)).await.unwrap();
        writer.finish().await.unwrap();
    }
    // What is not ours stays.
    for other in [
        "died/notes.txt",
        "died/entity_rows-1.csv",
        "died/sub/entity_rows-1.arrows",
    ] {
        let path = Path::from(format!("offline/flights/_datasets/{other}"));
        objects.put(&path, "x".into()).await.unwrap();
    }
    let files = async || {
        let listed: Vec<_> = objects.list(None).try_collect().await.unwrap();
        listed.len()
    };
    let written: Vec<_> = objects.list(None).try_collect().await.unwrap();
    let written = written
        .iter()
        .map(|o: &ObjectMeta| o.last_modified.timestamp_micros());
    let written = written.max().unwrap();
    let vacuum = async |after: i64, retention: &str, dry_run| {
        let now = Timestamp::from_micros(written + after);
        let found = datasets
            .vacuum(retention.parse().unwrap(), dry_run, now)
            .await;
        let found = found.unwrap().into_iter();
        let found = found.map(|u| (u.name.to_string(), u.deleted.len(), u.retained));
        found.collect::<Vec<_>>()
    };
    let of = |deleted, retained| ["d", "died"].map(|name| (name.to_owned(), deleted, retained));
    assert_eq!(files().await, 7);
    assert_eq!(
        vacuum(DAY / 2, "1s", false).await,
        of(0, 1),
        "it may be at work"
    );
    assert_eq!(vacuum(6 * DAY, "7d", false).await, of(0, 1));
    assert_eq!(vacuum(8 * DAY, "7d", true).await, of(1, 0));
    assert_eq!(files().await, 7, "they are only named");
    assert_eq!(vacuum(8 * DAY, "7d", false).await, of(1, 0));
    assert_eq!(vacuum(8 * DAY, "7d", false).await, []);
    assert_eq!(files().await, 5);
    assert_eq!(
        datasets.gone(&saved).await.unwrap().len(),
        1,
        "only the table that never was"
    );
    let (_, kept) = datasets.entity_rows(&saved).await.unwrap();
    assert!(!kept.try_collect::<Vec<_>>().await.unwrap().is_empty());
}

#[tokio::test]
async fn half_an_upload_of_entity_rows_goes_from_a_local_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = OfflineStore::open("offline", folder.path()).unwrap();
    let datasets = Datasets::of(&store, &"flights".parse().unwrap()).unwrap();
    let rest = folder
        .path()
        .join("offline/flights/_datasets/died/entity_rows-1.arrows#3");
    std::fs::create_dir_all(rest.parent().unwrap()).unwrap();
    std::fs::write(&rest, "half").unwrap();
    let retention = "7d".parse().unwrap();
    let later: Timestamp = "2099-01-01T00:00:00Z".parse().unwrap();
    let found = datasets.vacuum(retention, false, later).await.unwrap();
    assert_eq!(found[0].deleted[0].path, "entity_rows-1.arrows#3");
    assert!(!rest.exists());
    assert_eq!(datasets.vacuum(retention, false, later).await.unwrap(), []);
}
