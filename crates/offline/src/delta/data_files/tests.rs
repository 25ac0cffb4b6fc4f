use arrow::{
    array::{AsArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Int64Type, Schema, TimeUnit},
};
use futures::TryStreamExt;
use object_store::{ObjectStore, memory::InMemory};
use parquet::{
    arrow::arrow_reader::{
        ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
    },
    basic::Encoding,
    file::{metadata::PageIndexPolicy, page_index::column_index::ColumnIndexMetaData},
};
use proptest::prelude::*;

use super::*;
use crate::delta::{OfflineStore, faulty::FaultyStore, layout::delta_schema};

const ROWS: usize = ROW_GROUP_ROWS;

fn schema() -> Arc<Schema> {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, false),
        Field::new("event_timestamp", utc, false),
        Field::new("f", DataType::Float64, true),
        Field::new("s", DataType::Utf8, true),
    ]))
}

/// Rows whose number is their time and their key, and whose features follow from it.
fn batch(rows: std::ops::Range<usize>) -> RecordBatch {
    let numbers = || rows.clone().map(|i| i64::try_from(i).unwrap());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(numbers())),
        Arc::new(TimestampMicrosecondArray::from_iter_values(numbers()).with_timezone("UTC")),
        Arc::new(Float64Array::from_iter(
            numbers().map(|i| (i % 7 > 0).then(|| (i as f64).sqrt())),
        )),
        Arc::new(StringArray::from_iter_values(
            rows.clone().map(|i| ["red", "green"][i % 2]),
        )),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn table(objects: Arc<dyn ObjectStore>) -> Table {
    let store = OfflineStore::over(objects, "memory:///offline".parse().unwrap());
    store
        .table(&"p".parse().unwrap(), &"v@1".parse().unwrap())
        .unwrap()
}

fn data_files(table: &Table) -> DataFiles {
    let columns = delta_schema(&schema()).unwrap();
    let statistics = ["k", "event_timestamp"].map(str::to_owned).to_vec();
    DataFiles::new(
        table,
        &columns,
        statistics,
        Origin::Run,
        Arrangement::AsTheyCome,
    )
}

async fn written(lanes: &[Vec<RecordBatch>]) -> (Table, Written) {
    let table = table(Arc::new(InMemory::new()));
    let mut files = data_files(&table);
    let longest = lanes.iter().map(Vec::len).max().unwrap_or(0);
    for place in 0..longest {
        for (number, lane) in lanes.iter().enumerate() {
            if let Some(batch) = lane.get(place) {
                files.write(number, batch).await.unwrap();
            }
        }
    }
    let written = files.finish().await.unwrap();
    (table, written)
}

/// The row numbers in each row group of a file, and what the file says of itself.
async fn read(table: &Table, add: &Add) -> (Vec<Vec<i64>>, ArrowReaderMetadata) {
    let object = table.objects().get(&Path::from(add.path.as_str())).await;
    let bytes = object.unwrap().bytes().await.unwrap();
    assert_eq!(bytes.len() as i64, add.size);
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    let metadata = ArrowReaderMetadata::load(&bytes, options).unwrap();
    let mut groups = Vec::new();
    for group in 0..metadata.metadata().num_row_groups() {
        let reader =
            ParquetRecordBatchReaderBuilder::new_with_metadata(bytes.clone(), metadata.clone())
                .with_row_groups(vec![group])
                .build()
                .unwrap();
        let mut numbers = Vec::new();
        for rows in reader {
            let rows = rows.unwrap();
            let keys = rows.column(0).as_primitive::<Int64Type>().values().to_vec();
            for (place, key) in keys.iter().enumerate() {
                let number = usize::try_from(*key).unwrap();
                assert_eq!(rows.slice(place, 1), batch(number..number + 1));
                if place > 3 {
                    break;
                }
            }
            numbers.extend(keys);
        }
        groups.push(numbers);
    }
    (groups, metadata)
}

#[tokio::test]
async fn row_groups_have_rows_of_one_lane_and_the_rest_goes_together() {
    let lane = |from: usize, length: usize| {
        vec![
            batch(from..from + length / 2),
            batch(from + length / 2..from + length),
        ]
    };
    let (table, written) = written(&[
        lane(0, ROWS + 10),
        lane(10_000_000, 2 * ROWS),
        lane(20_000_000, 5),
    ])
    .await;
    assert_eq!(written.rows, 3 * ROWS as u64 + 15);
    let [add] = written.adds.as_slice() else {
        panic!("{:?}", written.adds);
    };
    let (groups, metadata) = read(&table, add).await;
    let lanes: Vec<Vec<i64>> = groups
        .iter()
        .map(|rows| {
            let mut lanes: Vec<_> = rows.iter().map(|row| row / 10_000_000).collect();
            lanes.dedup();
            lanes
        })
        .collect();
    let mut all: Vec<_> = groups.concat();
    all.sort_unstable();
    let want = (0..ROWS + 10)
        .chain(10_000_000..10_000_000 + 2 * ROWS)
        .chain(20_000_000..20_000_005);
    assert_eq!(all, want.map(|i| i as i64).collect::<Vec<_>>());
    let (rest, whole) = lanes.split_last().unwrap();
    assert_eq!(rest, &[0, 2]);
    assert!(whole.iter().all(|lanes| lanes.len() == 1), "{lanes:?}");
    let parquet = metadata.metadata();
    for group in 0..parquet.num_row_groups() {
        let pages = &parquet.offset_index().unwrap()[group];
        let rows = parquet.row_group(group).num_rows();
        for column in pages {
            assert_eq!(column.page_locations().len() as i64, (rows + 8191) / 8192);
        }
    }
}

#[tokio::test]
async fn what_readers_skip_by_has_bounds_per_page() {
    let (table, written) = written(&[vec![batch(0..ROWS)]]).await;
    let (_, metadata) = read(&table, &written.adds[0]).await;
    let index = &metadata.metadata().column_index().unwrap()[0];
    let has_bounds: Vec<_> = index
        .iter()
        .map(|column| !matches!(column, ColumnIndexMetaData::NONE))
        .collect();
    assert_eq!(has_bounds, [true, true, false, false]);
    let chunk = |column| metadata.metadata().row_group(0).column(column);
    assert!(chunk(2).statistics().is_some());
    let encodings: Vec<Vec<Encoding>> = (0..4)
        .map(|column| chunk(column).encodings().collect())
        .collect();
    assert!(
        encodings[0].contains(&Encoding::DELTA_BINARY_PACKED),
        "{encodings:?}"
    );
    assert!(
        !encodings[2].contains(&Encoding::RLE_DICTIONARY),
        "{encodings:?}"
    );
    assert!(
        encodings[3].contains(&Encoding::RLE_DICTIONARY),
        "{encodings:?}"
    );
}

#[tokio::test]
async fn the_log_says_how_many_rows_and_between_which_bounds() {
    let (_, written) = written(&[vec![batch(3..5000)]]).await;
    let stats = written.adds[0].stats.as_deref().unwrap();
    insta::assert_snapshot!(stats, @r#"{"numRecords":4997,"minValues":{"k":3,"event_timestamp":"1970-01-01T00:00:00Z"},"maxValues":{"k":4999,"event_timestamp":"1970-01-01T00:00:00.004Z"},"nullCount":{"k":0,"event_timestamp":0}}"#);
    let nothing = self::written(&[]).await.1;
    assert!(nothing.adds.is_empty());
}

#[tokio::test]
async fn wide_rows_make_small_row_groups() {
    let wide = "x".repeat(8 << 10);
    let strings = StringArray::from_iter_values((0..20_000).map(|i| format!("{i}{wide}")));
    let rows = batch(0..20_000);
    let mut columns = rows.columns().to_vec();
    columns[3] = Arc::new(strings);
    let rows = RecordBatch::try_new(schema(), columns).unwrap();
    let table = table(Arc::new(InMemory::new()));
    let mut files = data_files(&table);
    for at in (0..20_000).step_by(1000) {
        files.write(0, &rows.slice(at, 1000)).await.unwrap();
    }
    let written = files.finish().await.unwrap();
    let path = Path::from(written.adds[0].path.as_str());
    let bytes = table
        .objects()
        .get(&path)
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let groups = reader.metadata().row_groups();
    assert!(groups.len() >= 3, "{}", groups.len());
    assert!(groups.iter().all(|group| group.num_rows() <= 8000));
}

#[tokio::test]
async fn an_abandoned_writer_leaves_nothing() {
    let objects = Arc::new(InMemory::new());
    let table = table(objects.clone());
    let mut files = data_files(&table);
    files.write(0, &batch(0..3 * ROWS)).await.unwrap();
    files.abandon().await;
    let left: Vec<_> = objects.list(None).try_collect().await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_store_that_fails_is_an_error_that_names_the_table() {
    for writes in 0.. {
        let faulty = Arc::new(FaultyStore::after(writes, Arc::new(InMemory::new())));
        let table = table(faulty.clone());
        let mut files = data_files(&table);
        let mut failed = None;
        for at in 0..12 {
            let rows = batch(at * ROWS..(at + 1) * ROWS);
            if let Err(error) = files.write(0, &rows).await {
                failed = Some(error);
                break;
            }
        }
        let failed = match failed {
            Some(error) => {
                files.abandon().await;
                Some(error)
            }
            None => files.finish().await.err(),
        };
        assert_eq!(failed.is_some(), faulty.died(), "after {writes} writes");
        let Some(error) = failed else {
            assert!(writes > 1, "parts were uploaded");
            break;
        };
        assert!(
            matches!(&error, DeltaError::Write { table, .. } if table == "v@1"),
            "{error:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    /// The bounds of the statistics hold all values, whatever they are.
    #[test]
    fn bounds_hold_all_values(
        keys in prop::collection::vec(any::<i64>(), 1..20),
        times in prop::collection::vec(-4_000_000_000_000_000..4_000_000_000_000_000i64, 20),
    ) {
        let rows = keys.len();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(keys.clone())),
            Arc::new(TimestampMicrosecondArray::from(times[..rows].to_vec()).with_timezone("UTC")),
            Arc::new(Float64Array::from(vec![None; rows])),
            Arc::new(StringArray::from(vec![None::<&str>; rows])),
        ];
        let rows = RecordBatch::try_new(schema(), columns).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let stats = runtime.block_on(async {
            let mut files = data_files(&table(Arc::new(InMemory::new())));
            files.write(0, &rows).await.unwrap();
            let mut adds = files.finish().await.unwrap().adds;
            adds.remove(0).stats.unwrap()
        });
        let events = stats::event_range(Some(&stats)).unwrap();
        for at in &times[..keys.len()] {
            prop_assert!(events.first.micros() <= *at && *at <= events.last.micros(), "{} {}", at, stats);
        }
        let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
        prop_assert_eq!(stats["minValues"]["k"].as_i64(), keys.iter().min().copied());
        prop_assert_eq!(stats["maxValues"]["k"].as_i64(), keys.iter().max().copied());
    }
}
