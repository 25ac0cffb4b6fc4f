use arrow::array::{
    BinaryArray, Date32Array, Decimal128Array, DictionaryArray, FixedSizeListArray, Float32Array,
    Int8Array, Int32Array, Int64Array, LargeStringArray, ListArray, StringArray, StringViewArray,
    StructArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray, UInt32Array, UInt64Array, cast::AsArray,
};
use arrow::datatypes::{DataType, Field, Int8Type, Int32Type, TimestampMicrosecondType};
use insta::assert_snapshot;
use object_store::{ObjectStoreExt, memory::InMemory, path::Path as StorePath};

use super::*;

#[tokio::test]
async fn every_type_is_normalised_at_the_edge() {
    let folder = Folder::new();
    let nested = StructArray::from(vec![(
        Arc::new(Field::new("a", DataType::Int32, true)),
        array(Int32Array::from(vec![1, 2])),
    )]);
    folder.parquet(
        "all.parquet",
        vec![
            ("at", array(TimestampNanosecondArray::from(vec![1_500, -1]))),
            (
                "micros",
                array(TimestampMicrosecondArray::from(vec![Some(7), None])),
            ),
            (
                "millis",
                array(
                    TimestampMillisecondArray::from(vec![7, -7]).with_timezone("America/New_York"),
                ),
            ),
            ("seconds", array(TimestampSecondArray::from(vec![7, -7]))),
            ("day", array(Date32Array::from(vec![1, -1]))),
            ("tiny", array(Int8Array::from(vec![1, -1]))),
            ("u32", array(UInt32Array::from(vec![u32::MAX, 0]))),
            (
                "u64",
                array(UInt64Array::from(vec![9_223_372_036_854_775_807, 0])),
            ),
            ("f32", array(Float32Array::from(vec![0.5, f32::NAN]))),
            (
                "money",
                array(
                    Decimal128Array::from(vec![12345, -1])
                        .with_precision_and_scale(10, 2)
                        .unwrap(),
                ),
            ),
            ("large", array(LargeStringArray::from(vec!["a", "b"]))),
            ("view", array(StringViewArray::from(vec!["a", "b"]))),
            (
                "dict",
                array(DictionaryArray::<Int8Type>::from_iter([Some("x"), None])),
            ),
            (
                "raw",
                array(BinaryArray::from(vec![b"\x00\xff".as_slice(), b""])),
            ),
            (
                "list",
                array(ListArray::from_iter_primitive::<Int32Type, _, _>([
                    Some(vec![Some(1), None]),
                    None,
                ])),
            ),
            (
                "pair",
                array(FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
                    [Some(vec![Some(1), Some(2)]), None],
                    2,
                )),
            ),
            ("nested", array(nested)),
        ],
    );
    let source = parquet("all.parquet");
    assert_snapshot!(schema_of(&folder, &source).await, @r#"
    at timestamp
    micros timestamp
    millis timestamp
    seconds timestamp
    day timestamp
    tiny int32
    u32 int64
    u64 int64
    f32 float32
    money float64
    large string
    view string
    dict string
    raw bytes
    list list<int32>
    pair list<int32>
    -nested has the type Struct("a": Int32), which no feature can have
    "#);
    assert_snapshot!(table_of(rows(&folder, &source).await), @"
    +-----------------------------+-----------------------------+--------------------------+----------------------+----------------------+------+------------+---------------------+-----+--------+-------+------+------+------+-------+--------+
    | at                          | micros                      | millis                   | seconds              | day                  | tiny | u32        | u64                 | f32 | money  | large | view | dict | raw  | list  | pair   |
    +-----------------------------+-----------------------------+--------------------------+----------------------+----------------------+------+------------+---------------------+-----+--------+-------+------+------+------+-------+--------+
    | 1969-12-31T23:59:59.999999Z |                             | 1969-12-31T23:59:59.993Z | 1969-12-31T23:59:53Z | 1969-12-31T00:00:00Z | -1   | 0          | 0                   | NaN | -0.01  | b     | b    |      |      |       |        |
    | 1970-01-01T00:00:00.000001Z | 1970-01-01T00:00:00.000007Z | 1970-01-01T00:00:00.007Z | 1970-01-01T00:00:07Z | 1970-01-02T00:00:00Z | 1    | 4294967295 | 9223372036854775807 | 0.5 | 123.45 | a     | a    | x    | 00ff | [1, ] | [1, 2] |
    +-----------------------------+-----------------------------+--------------------------+----------------------+----------------------+------+------------+---------------------+-----+--------+-------+------+------+------+-------+--------+
    ");
}

#[tokio::test]
async fn nanoseconds_are_cut_off_towards_the_past() {
    let folder = Folder::new();
    let nanos = [
        -2_000,
        -1_001,
        -1_000,
        -999,
        -1,
        0,
        1,
        999,
        1_000,
        i64::MIN,
        i64::MAX,
    ];
    folder.parquet(
        "t.parquet",
        vec![("at", array(TimestampNanosecondArray::from(nanos.to_vec())))],
    );
    let batches = rows(&folder, &parquet("t.parquet")).await.unwrap();
    let micros: Vec<i64> = batches
        .iter()
        .flat_map(|b| {
            b.column(0)
                .as_primitive::<TimestampMicrosecondType>()
                .values()
                .to_vec()
        })
        .collect();
    let mut want: Vec<i64> = nanos.iter().map(|n| n.div_euclid(1_000)).collect();
    let mut found = micros;
    found.sort_unstable();
    want.sort_unstable();
    assert_eq!(found, want);
}

#[tokio::test]
async fn a_folder_is_its_files_of_that_format() {
    let folder = Folder::new();
    let one = |k: i32| vec![("k", array(Int32Array::from(vec![k])))];
    folder
        .parquet("data/a.parquet", one(1))
        .parquet("data/2013/b.parquet", one(2))
        .parquet("data/_tmp/c.parquet", one(3))
        .parquet("data/.d.parquet", one(4))
        .text("data/_SUCCESS", "")
        .text("data/readme.txt", "not data");
    assert_snapshot!(table_of(rows(&folder, &parquet("data")).await), @"
    +---+
    | k |
    +---+
    | 1 |
    | 2 |
    +---+
    ");
    assert_snapshot!(table_of(rows(&folder, &parquet("./other/../data/")).await), @"
    +---+
    | k |
    +---+
    | 1 |
    | 2 |
    +---+
    ");
    assert_snapshot!(table_of(rows(&folder, &parquet("data/*/?.parquet")).await), @"
    +---+
    | k |
    +---+
    | 2 |
    | 3 |
    +---+
    ");
    assert_snapshot!(table_of(rows(&folder, &parquet("data/**/[ab].parquet")).await), @"
    +---+
    | k |
    +---+
    | 1 |
    | 2 |
    +---+
    ");
}

#[tokio::test]
async fn a_listing_says_which_files_there_are_and_a_table_reads_just_those() {
    let folder = Folder::new();
    let one = |k: i32| vec![("k", array(Int32Array::from(vec![k])))];
    folder
        .parquet("data/b.parquet", one(1))
        .parquet("data/a.parquet", one(2));
    let source = parquet("data");
    let state = folder.sources().listing(&source).await.unwrap();
    let SourceState::Files(files) = &state else {
        panic!("{state:?}")
    };
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["a.parquet", "b.parquet"]);
    assert!(
        files
            .iter()
            .all(|file| file.size > 0 && file.modified_micros > 0 && file.etag.is_some())
    );
    assert_eq!(state, folder.sources().listing(&source).await.unwrap());

    // What came later is not read.
    folder.parquet("data/c.parquet", one(3));
    let columns = folder.sources().schema(&source).await.unwrap().columns;
    let read = |subset: Subset| rows_as(&folder, &source, &columns, subset);
    assert_snapshot!(table_of(read(Subset::State(state.clone())).await), @"
    +---+
    | k |
    +---+
    | 1 |
    | 2 |
    +---+
    ");
    assert_snapshot!(table_of(read(Subset::Files(files[1..].to_vec())).await), @"
    +---+
    | k |
    +---+
    | 1 |
    +---+
    ");
    assert_eq!(
        read(Subset::Files(Vec::new()))
            .await
            .unwrap()
            .iter()
            .map(RecordBatch::num_rows)
            .sum::<usize>(),
        0
    );

    // A single file, and the same through a cursor's text.
    let single = parquet("data/b.parquet");
    let state = folder.sources().listing(&single).await.unwrap();
    let text = serde_json::to_string(&state).unwrap();
    let again: SourceState = serde_json::from_str(&text).unwrap();
    assert_snapshot!(table_of(rows_as(&folder, &single, &columns, Subset::State(again)).await), @"
    +---+
    | k |
    +---+
    | 1 |
    +---+
    ");
}

#[tokio::test]
async fn a_file_without_rows_is_fine() {
    let folder = Folder::new();
    folder.parquet(
        "none.parquet",
        vec![("k", array(Int32Array::from(Vec::<i32>::new())))],
    );
    assert_snapshot!(schema_of(&folder, &parquet("none.parquet")).await, @"k int32");
    assert_eq!(
        rows(&folder, &parquet("none.parquet"))
            .await
            .unwrap()
            .iter()
            .map(RecordBatch::num_rows)
            .sum::<usize>(),
        0
    );
    folder.text("none.csv", "k,at\n");
    assert_snapshot!(schema_of(&folder, &csv("none.csv")).await, @"
    at timestamp
    -k has no value in its first rows, so its type is not known
    ");
}

#[tokio::test]
async fn csv_is_read_by_its_header() {
    let folder = Folder::new();
    folder.text(
        "t.csv",
        "\u{feff}k,at,x,ok,name\n\
        1,2013-01-01T06:00:00Z,1.5,true,\"a, \"\"b\"\"\nc\"\n\
        2,2013-01-01 06:00:00.000001,,false,\n\
        -3,2013-01-01T06:00:00+01:00,1e3,TRUE,é\r\n",
    );
    assert_snapshot!(schema_of(&folder, &csv("t.csv")).await, @"
    k int64
    at timestamp
    x float64
    ok bool
    name string
    ");
    assert_snapshot!(table_of(rows(&folder, &csv("t.csv")).await), @r#"
    +----+-----------------------------+--------+-------+--------+
    | k  | at                          | x      | ok    | name   |
    +----+-----------------------------+--------+-------+--------+
    |    |                             |        |       | c      |
    | -3 | 2013-01-01T05:00:00Z        | 1000.0 | true  | é      |
    | 1  | 2013-01-01T06:00:00Z        | 1.5    | true  | a, "b" |
    | 2  | 2013-01-01T06:00:00.000001Z |        | false |        |
    +----+-----------------------------+--------+-------+--------+
    "#);
}

#[tokio::test]
async fn csv_numbers_that_are_padded_with_zeros_are_text() {
    let folder = Folder::new();
    folder.text(
        "t.csv",
        "code,padded,signed,zero,fraction,number\n7,1.5,-1,0,0.5,7\n007,01.5,-01,0,0.25,70\n",
    );
    assert_snapshot!(schema_of(&folder, &csv("t.csv")).await, @"
    code string
    padded string
    signed string
    zero int64
    fraction float64
    number int64
    ");
    assert_snapshot!(table_of(rows(&folder, &csv("t.csv")).await), @"
    +------+--------+--------+------+----------+--------+
    | code | padded | signed | zero | fraction | number |
    +------+--------+--------+------+----------+--------+
    | 007  | 01.5   | -01    | 0    | 0.25     | 70     |
    | 7    | 1.5    | -1     | 0    | 0.5      | 7      |
    +------+--------+--------+------+----------+--------+
    ");
}

#[tokio::test]
async fn csv_columns_may_come_in_another_order_in_each_file() {
    let folder = Folder::new();
    folder
        .text("data/a.csv", "k,x\n1,10\n")
        .text("data/b.csv", "x,extra,k\n2.5,?,2\n");
    assert_snapshot!(schema_of(&folder, &csv("data")).await, @"
    k int64
    x float64
    -extra is in `data/b.csv` and not in `data/a.csv`
    ");
    assert_snapshot!(table_of(rows(&folder, &csv("data")).await), @"
    +---+------+
    | k | x    |
    +---+------+
    | 1 | 10.0 |
    | 2 | 2.5  |
    +---+------+
    ");
}

#[tokio::test]
async fn json_is_one_object_on_each_line() {
    let folder = Folder::new();
    folder.text("t.json", "{\"k\": 1, \"at\": \"2013-01-01T06:00:00Z\", \"tags\": [\"a\", null], \"deep\": {\"x\": 1}}\n\n\
        {\"at\": \"2013-01-01T06:00:00.000001\", \"x\": 0.5}\n{\"k\": null, \"at\": null, \"x\": 2}");
    assert_snapshot!(schema_of(&folder, &json("t.json")).await, @r#"
    k int64
    at timestamp
    tags list<string>
    x float64
    -deep has the type Struct("x": Int64), which no feature can have
    "#);
    assert_snapshot!(table_of(rows(&folder, &json("t.json")).await), @"
    +---+-----------------------------+-------+-----+
    | k | at                          | tags  | x   |
    +---+-----------------------------+-------+-----+
    |   |                             |       | 2.0 |
    |   | 2013-01-01T06:00:00.000001Z |       | 0.5 |
    | 1 | 2013-01-01T06:00:00Z        | [a, ] |     |
    +---+-----------------------------+-------+-----+
    ");
}

#[tokio::test]
async fn text_larger_than_one_batch_is_read_whole() {
    let folder = Folder::new();
    let count = 40_000;
    let lines: String = (0..count).map(|k| format!("{k},\"line\n{k}\"\n")).collect();
    folder.text("big.csv", &format!("k,text\n{lines}"));
    let objects: String = (0..count)
        .map(|k| format!("{{\"k\": {k}, \"text\": \"{}\"}}\n", "x".repeat(40)))
        .collect();
    folder.text("big.json", &objects);
    for source in [csv("big.csv"), json("big.json")] {
        let table = folder.sources();
        let columns = table.schema(&source).await.unwrap().columns;
        let table = table.table(&source, &columns, Subset::All).await.unwrap();
        let engine = engine();
        engine.register_table("t", table).unwrap();
        let sums = engine
            .sql("SELECT count(*) AS n, sum(k) AS s, count(DISTINCT text) > 0 AS t FROM t")
            .await
            .unwrap();
        let sums = pretty_format_batches(&sums.collect().await.unwrap())
            .unwrap()
            .to_string();
        assert!(
            sums.contains(&format!("| {count} | {} |", count * (count - 1) / 2)),
            "{sums}"
        );
        // No column at all, only how many rows.
        let n = engine
            .sql("SELECT count(*) FROM t")
            .await
            .unwrap()
            .collect()
            .await
            .unwrap();
        assert_eq!(
            n[0].column(0)
                .as_primitive::<arrow::datatypes::Int64Type>()
                .value(0),
            count
        );
    }
}

#[tokio::test]
async fn a_narrower_type_than_was_applied_is_widened() {
    let folder = Folder::new();
    folder.parquet(
        "data/a.parquet",
        vec![
            ("k", array(Int64Array::from(vec![1]))),
            ("x", array(Float32Array::from(vec![0.5]))),
        ],
    );
    folder.parquet(
        "data/b.parquet",
        vec![
            ("k", array(Int8Array::from(vec![2]))),
            ("x", array(Int32Array::from(vec![3]))),
        ],
    );
    let wanted = [
        ("x".to_owned(), "float64".parse().unwrap()),
        ("k".to_owned(), "int64".parse().unwrap()),
    ];
    assert_snapshot!(table_of(rows_as(&folder, &parquet("data"), &wanted, Subset::All).await), @"
    +-----+---+
    | x   | k |
    +-----+---+
    | 0.5 | 1 |
    | 3.0 | 2 |
    +-----+---+
    ");
}

#[tokio::test]
async fn an_object_store_is_read_by_url() {
    let store = Arc::new(InMemory::new());
    for (path, k) in [("in/a.parquet", 1), ("in/2013/b.parquet", 2)] {
        let bytes = parquet_bytes(vec![("k", array(Int32Array::from(vec![k])))]);
        store
            .put(&StorePath::from(path), bytes.into())
            .await
            .unwrap();
    }
    store
        .put(&StorePath::from("text/a.csv"), "k\n7\n".into())
        .await
        .unwrap();
    let sources = Sources::new("/nowhere").with_store(&"s3://bucket".parse().unwrap(), store);
    for (source, want) in [
        (parquet("s3://bucket/in/"), 2),
        (parquet("s3://bucket/in"), 2),
        (parquet("s3://bucket/in/a.parquet"), 1),
        (parquet("s3://bucket/in/*/*.parquet"), 1),
        (csv("s3://bucket/text/a.csv"), 1),
    ] {
        let columns = sources.schema(&source).await.unwrap().columns;
        let table = sources.table(&source, &columns, Subset::All).await.unwrap();
        let batches = engine().read_table(table).unwrap().collect().await.unwrap();
        assert_eq!(
            batches.iter().map(RecordBatch::num_rows).sum::<usize>(),
            want,
            "{}",
            source.path
        );
    }
    let missing = sources
        .schema(&parquet("s3://bucket/out"))
        .await
        .unwrap_err();
    assert_snapshot!(chain(&missing), @"the source `things` has no data: there is no file or folder `s3://bucket/out`; correct its `path`, or put the data there");
}

#[tokio::test]
async fn strings_in_a_column_named_with_odd_characters_are_read() {
    let folder = Folder::new();
    folder.parquet(
        "spaced name/50%/é.parquet",
        vec![("a b\"c", array(StringArray::from(vec!["x"])))],
    );
    assert_snapshot!(table_of(rows(&folder, &parquet("spaced name")).await), @r#"
    +-------+
    | a b"c |
    +-------+
    | x     |
    +-------+
    "#);
    assert_snapshot!(table_of(rows(&folder, &parquet("spaced name/50%/é.parquet")).await), @r#"
    +-------+
    | a b"c |
    +-------+
    | x     |
    +-------+
    "#);
}
