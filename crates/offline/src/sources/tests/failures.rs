use arrow::array::{Float64Array, Int32Array, Int64Array, StringArray, UInt64Array};
use insta::assert_snapshot;

use super::*;

fn one(k: i32) -> Vec<(&'static str, ArrayRef)> {
    vec![("k", array(Int32Array::from(vec![k])))]
}

fn wanted(columns: &[(&str, &str)]) -> Vec<(String, FeatureType)> {
    columns
        .iter()
        .map(|(name, t)| ((*name).to_owned(), t.parse().unwrap()))
        .collect()
}

async fn read(folder: &Folder, source: &Source, columns: &[(&str, &str)]) -> String {
    table_of(rows_as(folder, source, &wanted(columns), Subset::All).await)
}

#[tokio::test]
async fn there_is_no_data() {
    let folder = Folder::new();
    folder
        .text("notes/readme.txt", "?")
        .parquet("data/a.parquet", one(1));
    fs::create_dir(folder.0.path().join("empty")).unwrap();
    assert_snapshot!(schema_of(&folder, &parquet("data/b.parquet")).await, @"the source `things` has no data: there is no file or folder `data/b.parquet`; correct its `path`, or put the data there");
    assert_snapshot!(schema_of(&folder, &csv("nowhere/")).await, @"the source `things` has no data: there is no file or folder `nowhere/`; correct its `path`, or put the data there");
    assert_snapshot!(schema_of(&folder, &csv("empty")).await, @"the source `things` has no data: there is no file or folder `empty`; correct its `path`, or put the data there");
    assert_snapshot!(schema_of(&folder, &parquet("data/*.csv")).await, @"the source `things` has no data: no file matches `data/*.csv`; correct its `path`");
    assert_snapshot!(schema_of(&folder, &parquet("notes")).await, @"the source `things` has no data: the folder `notes` has no `.parquet` file, only others such as `readme.txt`; name the files with a glob, or set `format`");
    assert_snapshot!(schema_of(&folder, &json("data")).await, @"the source `things` has no data: the folder `data` has no `.json` or `.jsonl` or `.ndjson` file, only others such as `a.parquet`; name the files with a glob, or set `format`");
    assert_snapshot!(schema_of(&folder, &parquet("ftp://host/x")).await, @r#"the path `ftp://host/x` of the source `things` is not one that Vintner can open: it is not the URL of a known object store; write s3://bucket/path"#);
    assert_snapshot!(schema_of(&folder, &parquet("data/[a.parquet")).await, @"the path `data/[a.parquet` of the source `things` is not one that Vintner can open: Pattern syntax error near position 0: invalid range pattern");
}

#[tokio::test]
async fn a_file_is_empty() {
    let folder = Folder::new();
    folder
        .text("e.parquet", "")
        .text("e.csv", "")
        .text("blank.csv", "\n\n")
        .text("e.json", "")
        .text("blank.json", "\n");
    for source in [
        parquet("e.parquet"),
        csv("e.csv"),
        csv("blank.csv"),
        json("e.json"),
        json("blank.json"),
    ] {
        let path = source.path.clone();
        assert_eq!(
            schema_of(&folder, &source).await,
            format!(
                "the file `{path}` of the source `things` is empty; write it again, or remove it"
            )
        );
    }
}

#[tokio::test]
async fn a_parquet_file_is_not_whole() {
    let folder = Folder::new();
    let whole = parquet_bytes(vec![(
        "k",
        array(Int64Array::from((0..100).collect::<Vec<i64>>())),
    )]);
    folder
        .bytes("data/cut.parquet", &whole[..whole.len() / 2])
        .text("text.parquet", "k,x\n1,2\n")
        .text("short.parquet", "PAR1");
    assert_snapshot!(schema_of(&folder, &parquet("data/cut.parquet")).await, @"
    `data/cut.parquet` of the source `things` is not a whole Parquet file; write it again, or correct the source's `format`
      because Parquet error: Invalid Parquet file. Corrupt footer
    ");
    assert_snapshot!(schema_of(&folder, &parquet("data")).await, @"
    `data/cut.parquet` of the source `things` is not a whole Parquet file; write it again, or correct the source's `format`
      because Parquet error: Invalid Parquet file. Corrupt footer
    ");
    assert_snapshot!(schema_of(&folder, &parquet("text.parquet")).await, @"
    `text.parquet` of the source `things` is not a whole Parquet file; write it again, or correct the source's `format`
      because Parquet error: Invalid Parquet file. Corrupt footer
    ");
    assert_snapshot!(schema_of(&folder, &parquet("short.parquet")).await, @"
    `short.parquet` of the source `things` is not a whole Parquet file; write it again, or correct the source's `format`
      because Parquet error: Parquet files are at least 8 bytes long, but file length is 4
    ");
    // The footer is whole, a page is not.
    let mut broken = whole.clone();
    broken[4..24].fill(0xff);
    folder
        .parquet(
            "more/a.parquet",
            vec![("k", array(Int64Array::from(vec![1])))],
        )
        .bytes("more/b.parquet", &broken);
    let error = read(&folder, &parquet("more"), &[("k", "int64")]).await;
    assert_snapshot!(error.lines().next().unwrap(), @"`more/b.parquet` of the source `things` is not a whole Parquet file; write it again, or correct the source's `format`");
}

#[tokio::test]
async fn a_csv_row_is_broken() {
    let folder = Folder::new();
    folder
        .text("few.csv", "k,x\n1,2\n3\n")
        .text("many.csv", "k,x\n1,2\n3,4,5\n");
    folder.text(
        "late.csv",
        &format!("k,x\n{}oops,2\n", "1,2\n".repeat(9_000)),
    );
    folder.bytes("latin.csv", b"k,x\n1,caf\xe9\n");
    assert_snapshot!(schema_of(&folder, &csv("many.csv")).await, @"line 3 of `many.csv` of the source `things` cannot be read: it has more values than the header's 2 columns; correct the line");
    assert_snapshot!(schema_of(&folder, &csv("latin.csv")).await, @"line 2 of `latin.csv` of the source `things` cannot be read: it is not UTF-8; correct the line");
    assert_snapshot!(read(&folder, &csv("few.csv"), &[("k", "int64")]).await, @"line 3 of `few.csv` of the source `things` cannot be read: it has 1 value, and the header has 2 columns; correct the line");
    assert_snapshot!(read(&folder, &csv("many.csv"), &[("k", "int64")]).await, @"line 3 of `many.csv` of the source `things` cannot be read: it has 3 values, and the header has 2 columns; correct the line");
    assert_snapshot!(read(&folder, &csv("late.csv"), &[("k", "int64"), ("x", "int64")]).await, @r#"the value "oops" in `k`, line 9002 of `late.csv` of the source `things` is not of type int64; correct it, or change the column's type and apply again"#);
    assert_snapshot!(read(&folder, &csv("late.csv"), &[("x", "timestamp")]).await, @r#"the value "2" in `x`, line 2 of `late.csv` of the source `things` is not of type timestamp; correct it, or change the column's type and apply again"#);
    assert_snapshot!(read(&folder, &csv("latin.csv"), &[("x", "string")]).await, @"line 2 of `latin.csv` of the source `things` cannot be read: it is not UTF-8; correct the line");
}

#[tokio::test]
async fn a_json_line_is_broken() {
    let folder = Folder::new();
    folder
        .text("type.json", "{\"k\": 1}\n{\"k\": 2}\n{\"k\": \"three\"}\n")
        .text("cut.json", "{\"k\": 1}\n{\"k\": 2")
        .text("array.json", "[{\"k\": 1}]\n")
        .text("two.json", "{\"k\": 1}\nnonsense\n");
    assert_snapshot!(schema_of(&folder, &json("two.json")).await, @"line 2 of `two.json` of the source `things` cannot be read: it is not a JSON object: expected ident at column 2; correct the line");
    assert_snapshot!(read(&folder, &json("type.json"), &[("k", "int64")]).await, @r#"line 3 of `type.json` of the source `things` cannot be read: whilst decoding field 'k': failed to parse "three" as Int64; correct the line"#);
    assert_snapshot!(read(&folder, &json("cut.json"), &[("k", "int64")]).await, @"line 2 of `cut.json` of the source `things` cannot be read: it is not a JSON object: EOF while parsing an object at column 7; correct the line");
    assert_snapshot!(read(&folder, &json("array.json"), &[("k", "int64")]).await, @"line 1 of `array.json` of the source `things` cannot be read: it is not a JSON object: invalid type: sequence, expected a map at column 0; correct the line");
    assert_snapshot!(read(&folder, &json("two.json"), &[("k", "int64")]).await, @"line 2 of `two.json` of the source `things` cannot be read: it is not a JSON object: expected ident at column 2; correct the line");
}

#[tokio::test]
async fn the_files_of_a_folder_differ() {
    let folder = Folder::new();
    folder.parquet("types/a.parquet", one(1)).parquet(
        "types/b.parquet",
        vec![("k", array(StringArray::from(vec!["x"])))],
    );
    assert_snapshot!(schema_of(&folder, &parquet("types")).await, @"the files of the source `things` differ: `k` is int32 in `types/a.parquet` and string in `types/b.parquet`; write one of them again");
    folder.parquet("more/a.parquet", one(1));
    folder.parquet(
        "more/b.parquet",
        vec![
            ("k", array(Int32Array::from(vec![2]))),
            ("gust", array(Int32Array::from(vec![3]))),
        ],
    );
    // A column that only the newer files have cannot be used, and says why; the others can.
    assert_snapshot!(schema_of(&folder, &parquet("more")).await, @"
    k int32
    -gust is in `more/b.parquet` and not in `more/a.parquet`
    ");
    assert_snapshot!(read(&folder, &parquet("more"), &[("k", "int32"), ("gust", "int32")]).await, @"the files of the source `things` differ: `more/b.parquet` has the column `gust`, `more/a.parquet` has not; write it again with the column, or move it out of the source");
    assert_snapshot!(read(&folder, &parquet("more"), &[("k", "int32")]).await, @"
    +---+
    | k |
    +---+
    | 1 |
    | 2 |
    +---+
    ");
    folder
        .text("text/a.csv", "k\n1\n")
        .text("text/b.csv", "k\nx\n");
    assert_snapshot!(schema_of(&folder, &csv("text")).await, @"the files of the source `things` differ: `k` is int64 in `text/a.csv` and string in `text/b.csv`; write one of them again");
}

#[tokio::test]
async fn a_source_has_changed_since_it_was_applied() {
    let folder = Folder::new();
    folder.parquet(
        "a.parquet",
        vec![
            ("key", array(Int64Array::from(vec![1]))),
            ("x", array(Float64Array::from(vec![1.0]))),
        ],
    );
    folder
        .text("a.csv", "key,x\n1,2\n")
        .text("a.json", "{\"key\": 1}\n");
    assert_snapshot!(read(&folder, &parquet("a.parquet"), &[("kee", "int64")]).await, @"the source `things` has changed since it was applied: `a.parquet` has no column `kee` (it has `key`); write the file with that column, or take it out of the queries and apply again");
    assert_snapshot!(read(&folder, &parquet("a.parquet"), &[("key", "int32")]).await, @"the source `things` has changed since it was applied: `key` was int32 and is int64 in `a.parquet`; run `plan` to see what that means and `apply` to accept it, or write the file as before");
    assert_snapshot!(read(&folder, &parquet("a.parquet"), &[("x", "string")]).await, @"the source `things` has changed since it was applied: `x` was string and is float64 in `a.parquet`; run `plan` to see what that means and `apply` to accept it, or write the file as before");
    assert_snapshot!(read(&folder, &csv("a.csv"), &[("y", "int64")]).await, @"the source `things` has changed since it was applied: `a.csv` has no column `y` (it has `x`); write the file with that column, or take it out of the queries and apply again");
    assert_snapshot!(read(&folder, &json("a.json"), &[("x", "int64")]).await, @"the source `things` has changed since it was applied: `a.json` has no column `x`; write the file with that column, or take it out of the queries and apply again");
}

#[tokio::test]
async fn a_value_that_does_not_fit_is_not_null() {
    let folder = Folder::new();
    folder.parquet(
        "u.parquet",
        vec![("big", array(UInt64Array::from(vec![1, u64::MAX])))],
    );
    folder.parquet(
        "s.parquet",
        vec![(
            "at",
            array(arrow::array::TimestampSecondArray::from(vec![0, i64::MAX])),
        )],
    );
    assert_snapshot!(read(&folder, &parquet("u.parquet"), &[("big", "int64")]).await, @"the value 18446744073709551615 in `big` of `u.parquet` of the source `things` is not of type int64; correct it, or change the column's type and apply again");
    assert_snapshot!(read(&folder, &parquet("s.parquet"), &[("at", "timestamp")]).await, @"the value 9223372036854775807 in `at` of `s.parquet` of the source `things` is not of type timestamp; correct it, or change the column's type and apply again");
}

#[tokio::test]
async fn a_file_that_is_gone_is_named() {
    let folder = Folder::new();
    folder
        .parquet("data/a.parquet", one(1))
        .text("data/a.csv", "k\n1\n");
    for source in [parquet("data"), csv("data")] {
        let sources = folder.sources();
        let columns = wanted(&[("k", "int32")]);
        let table = sources.table(&source, &columns, Subset::All).await.unwrap();
        let file = if source.format == SourceFormat::Csv {
            "a.csv"
        } else {
            "a.parquet"
        };
        fs::remove_file(folder.0.path().join("data").join(file)).unwrap();
        let error = engine()
            .read_table(table)
            .unwrap()
            .collect()
            .await
            .unwrap_err();
        let error = SourceError::within(&error).unwrap().to_string();
        assert!(error.contains(&format!("`data/{file}`")), "{error}");
    }
}

#[test]
fn a_refusal_by_the_system_is_told_from_a_failure() {
    let source = parquet("data/a.parquet");
    let of = |error| chain(&listing::store_error(&source, "data/a.parquet", error));
    let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    assert_snapshot!(of(object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(denied) }), @"no permission to read `data/a.parquet` of the source `things`; give the user that runs Vintner the right to read it");
    assert_snapshot!(of(object_store::Error::PermissionDenied { path: "x".to_owned(), source: "403".into() }), @"no permission to read `data/a.parquet` of the source `things`; give the user that runs Vintner the right to read it");
    assert_snapshot!(of(object_store::Error::Generic { store: "S3", source: "connection reset".into() }), @"
    `data/a.parquet` of the source `things` could not be read
      because Generic S3 error: connection reset
      because connection reset
    ");
}
