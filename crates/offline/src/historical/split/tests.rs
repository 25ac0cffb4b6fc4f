//! Which part a row is in: for ever the same one, and the same for equal keys.

use arrow::{
    array::{
        BinaryArray, BooleanArray, DictionaryArray, Int8Array, Int32Array, Int64Array,
        LargeStringArray, NullArray, StringViewArray, TimestampMicrosecondArray, UInt64Array,
    },
    compute::{concat_batches, take_record_batch},
    datatypes::{Int32Type, Schema},
};

use super::*;

fn refused(parts: &str, by: Option<&[&str]>) -> String {
    let by = by.map(|columns| columns.iter().map(|column| column.parse().unwrap()));
    match Split::new(parts, by.map(Iterator::collect)) {
        Ok(split) => format!("a split: {split}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_split_is_written_in_two_forms() {
    insta::assert_snapshot!(refused("train=0.8,valid=0.1,test=0.1", None), @"a split: train=0.8,valid=0.1,test=0.1 by the join keys");
    insta::assert_snapshot!(refused(" a = 0.5 , b = .5 ", Some(&["k", "j"])), @"a split: a=0.5,b=0.5 by j, k");
    insta::assert_snapshot!(refused("a=0.3333333333,b=0.3333333333,c=0.3333333333", None), @"a split: a=0.3333333333,b=0.3333333333,c=0.3333333333 by the join keys");
    insta::assert_snapshot!(refused("train=2013-09-01,valid=2013-11-01T06:00:00+01:00,test", None), @"a split: train=2013-09-01T00:00:00Z,valid=2013-11-01T05:00:00Z,test by time");
}

#[test]
fn what_is_no_split_is_told_what_is_wrong() {
    let by_key = |parts: &str| refused(parts, None);
    insta::assert_snapshot!(by_key("train=1"), @"a split has at least two parts; write fractions, like train=0.8,valid=0.1,test=0.1, or the moments at which parts end, like train=2013-09-01,valid=2013-11-01,test");
    insta::assert_snapshot!(by_key(""), @"the part name is empty");
    insta::assert_snapshot!(by_key("a=0.5,b-c=0.5"), @"the part name `b-c` may only have letters, digits and `_`, and must not start with a digit");
    insta::assert_snapshot!(by_key("a=0.5,a=0.5"), @"the split names `a` twice");
    insta::assert_snapshot!(by_key("a=0.5,b=half"), @"`half`, of the part `b`, is neither a fraction nor a time; write fractions, like train=0.8,valid=0.1,test=0.1, or the moments at which parts end, like train=2013-09-01,valid=2013-11-01,test");
    insta::assert_snapshot!(by_key("a=0.5,b=2013-01-01,c"), @"a split is by fractions of the keys or by moments, not by both; write fractions, like train=0.8,valid=0.1,test=0.1, or the moments at which parts end, like train=2013-09-01,valid=2013-11-01,test, where the last part has all later rows");
    insta::assert_snapshot!(by_key("a=0.5,b"), @"the part `b` has no fraction, and others have; write fractions, like train=0.8,valid=0.1,test=0.1, or the moments at which parts end, like train=2013-09-01,valid=2013-11-01,test");
    insta::assert_snapshot!(by_key("a=1,b=0"), @"the fraction of the part `b` is 0; it must be more than 0");
    insta::assert_snapshot!(by_key("a=1.5,b=-0.5"), @"the fraction of the part `b` is -0.5; it must be more than 0");
    insta::assert_snapshot!(by_key("a=0.5,b=NaN"), @"the fraction of the part `b` is NaN; it must be more than 0");
    insta::assert_snapshot!(by_key("a=0.5,b=inf"), @"the fractions of the split add up to inf; they must add up to 1");
    insta::assert_snapshot!(by_key("a=0.5,b=0.499999998"), @"the fractions of the split add up to 0.9999999980000001; they must add up to 1");
    insta::assert_snapshot!(by_key("a,b"), @"the part `a` does not say when it ends; only the last part has all later rows");
    insta::assert_snapshot!(by_key("a=2013-01-01,b,c"), @"the part `b` does not say when it ends; only the last part has all later rows");
    insta::assert_snapshot!(by_key("a=2013-01-01,b=2013-02-01"), @"the last part, `b`, has all later rows; write it without a time, or add a part");
    insta::assert_snapshot!(by_key("a=2013-01-01,b=2013-01-01,c"), @"the part `b` ends at 2013-01-01T00:00:00Z, which is not after 2013-01-01T00:00:00Z, where the part before it ends");
    insta::assert_snapshot!(refused("a=2013-01-01,b", Some(&["k"])), @"a split by moments goes by the rows' time; leave out the columns to split by");
    insta::assert_snapshot!(refused("a=0.5,b=0.5", Some(&["k", "k"])), @"the split names `k` twice");
}

#[test]
fn a_split_comes_back_from_json() {
    for (parts, by) in [
        ("train=0.8,valid=0.1,test=0.1", None),
        ("a=0.1,b=0.2,c=0.7", Some(vec!["j".parse().unwrap()])),
        ("a=-009999-06-01,b=2013-01-01T00:00:00.000001Z,c", None),
    ] {
        let split = Split::new(parts, by).unwrap();
        let json = serde_json::to_string(&split).unwrap();
        assert_eq!(
            serde_json::from_str::<Split>(&json).unwrap(),
            split,
            "{json}"
        );
    }
    let json = r#"{"parts": "a=0.5,b=0.4", "by": null}"#;
    assert!(serde_json::from_str::<Split>(json).is_err());
}

fn key(name: &str, key_type: KeyType) -> JoinKey {
    JoinKey {
        name: name.parse().unwrap(),
        key_type,
    }
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields = columns
        .iter()
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

/// The part of each row.
fn parts(split: &str, by: Vec<JoinKey>, rows: &RecordBatch) -> Vec<Option<String>> {
    let planned = Split::new(split, None).unwrap().planned(by, "at").unwrap();
    let mut fields = rows.schema().fields().to_vec();
    fields.push(Arc::new(field()));
    let schema = Arc::new(Schema::new(fields));
    let with_part = planned.add(rows, &schema, 0).unwrap();
    let (part, before) = with_part.columns().split_last().unwrap();
    assert_eq!(before, rows.columns());
    let part = part.as_any().downcast_ref::<StringArray>().unwrap();
    part.iter().map(|part| part.map(str::to_owned)).collect()
}

/// Where each row's values are between 0 and 1.
fn numbers(rows: &RecordBatch, keys: Vec<JoinKey>) -> Vec<f64> {
    let keys = KeySchema::new(keys).unwrap();
    let columns: Vec<&ArrayRef> = keys
        .join_keys()
        .iter()
        .map(|key| rows.column_by_name(key.name.as_str()).unwrap())
        .collect();
    let columns = KeyColumns::new(&keys, &columns).unwrap();
    let mut values = Vec::new();
    let number = |row| {
        columns.encode_nullable_row(row, &mut values);
        number(&values)
    };
    (0..rows.num_rows()).map(number).collect()
}

/// These numbers never change: else a model would be trained on what it was tested with.
#[test]
fn golden_numbers() {
    let rows = batch(vec![
        (
            "id",
            Arc::new(Int64Array::from(vec![Some(0), Some(1), Some(-1), None])),
        ),
        (
            "name",
            Arc::new(StringArray::from(vec![
                Some(""),
                Some("JFK"),
                Some("é"),
                None,
            ])),
        ),
        (
            "flag",
            Arc::new(BooleanArray::from(vec![
                Some(false),
                Some(true),
                None,
                None,
            ])),
        ),
        (
            "raw",
            Arc::new(BinaryArray::from(vec![
                Some(&b""[..]),
                Some(b"\0\xff"),
                None,
                None,
            ])),
        ),
    ]);
    let (id, name) = (key("id", KeyType::Int64), key("name", KeyType::String));
    let (flag, raw) = (key("flag", KeyType::Bool), key("raw", KeyType::Bytes));
    let shown = |keys: &[&JoinKey]| {
        let keys = keys.iter().map(|&key| key.clone()).collect();
        let numbers = numbers(&rows, keys).into_iter();
        let numbers: Vec<String> = numbers.map(|number| format!("{number:.17}")).collect();
        numbers.join(" ")
    };
    assert_eq!(
        shown(&[&id]),
        "0.76023201284744690 0.00968064712569427 0.26182948170650377 0.86312050664742856"
    );
    assert_eq!(
        shown(&[&name]),
        "0.05473391646531534 0.13742196439619447 0.68930759979039946 0.86312050664742856"
    );
    assert_eq!(
        shown(&[&flag]),
        "0.45852595403513574 0.46649267105481229 0.86312050664742856 0.86312050664742856"
    );
    assert_eq!(
        shown(&[&raw]),
        "0.08088246402401289 0.25981503307186782 0.86312050664742856 0.86312050664742856"
    );
    assert_eq!(
        shown(&[&name, &id]),
        "0.11044564077292007 0.61341308018154161 0.24580119280268664 0.56946517358457671"
    );
}

#[test]
fn a_row_is_in_the_first_part_that_its_number_is_below() {
    let parts = [("a", 0.25), ("b", 0.5), ("c", 0.25)]
        .map(|(name, fraction)| (name.parse().unwrap(), fraction));
    let below = |number: f64| f64::from_bits(number.to_bits() - 1);
    for (number, want) in [
        (0.0, "a"),
        (below(0.25), "a"),
        (0.25, "b"),
        (below(0.75), "b"),
        (0.75, "c"),
        (below(1.0), "c"),
    ] {
        assert_eq!(part_of(number, &parts), want, "{number}");
    }
    // What adding up costs goes to the last part.
    let thirds = ["a", "b", "c"].map(|name| (name.parse().unwrap(), 0.333_333_333_3));
    assert_eq!(part_of(below(1.0), &thirds), "c");
}

#[test]
fn equal_keys_are_in_one_part_in_any_type_order_and_batches() {
    let count = 2000;
    let ids = Int32Array::from_iter((0..count).map(|i| (i % 9 != 0).then_some(i % 500)));
    let names: Vec<Option<String>> = (0..count)
        .map(|i| (i % 7 != 0).then(|| format!("name {}", i % 3)))
        .collect();
    let texts = || names.iter().map(Option::as_deref);
    let rows = batch(vec![
        ("id", Arc::new(ids.clone())),
        ("name", Arc::new(texts().collect::<StringArray>())),
    ]);
    let by = || vec![key("name", KeyType::String), key("id", KeyType::Int32)];
    let split = "train=0.6,valid=0.3,test=0.1";
    let want = parts(split, by(), &rows);
    // Other types of the same values.
    let wide: ArrayRef = Arc::new(
        ids.iter()
            .map(|id| id.map(i64::from))
            .collect::<Int64Array>(),
    );
    let unsigned = ids.iter().map(|id| id.map(|id| u64::try_from(id).unwrap()));
    let unsigned: ArrayRef = Arc::new(unsigned.collect::<UInt64Array>());
    let packed: DictionaryArray<Int32Type> = texts().collect();
    for (id, name) in [
        (Arc::clone(&wide), Arc::new(packed) as ArrayRef),
        (unsigned, Arc::new(texts().collect::<LargeStringArray>())),
        (wide, Arc::new(texts().collect::<StringViewArray>())),
    ] {
        let other = batch(vec![("name", name), ("id", id)]);
        assert_eq!(parts(split, by(), &other), want);
    }
    // Another order, in other batches.
    let order: Vec<u64> = (0..2000).map(|i| (i * 1_237) % 2000).collect();
    let shuffled = take_record_batch(&rows, &UInt64Array::from(order.clone())).unwrap();
    let pieces = (0..2000)
        .step_by(77)
        .map(|at| shuffled.slice(at, 77.min(2000 - at)));
    let found: Vec<_> = pieces
        .flat_map(|piece| parts(split, by(), &piece))
        .collect();
    let moved: Vec<_> = order
        .iter()
        .map(|&row| want[usize::try_from(row).unwrap()].clone())
        .collect();
    assert_eq!(found, moved);
    // About as many as was asked for, of distinct keys.
    let keys = batch(vec![(
        "id",
        Arc::new((0..20_000).map(Some).collect::<Int64Array>()),
    )]);
    let found = parts(split, vec![key("id", KeyType::Int64)], &keys);
    for (part, fraction) in [("train", 0.6), ("valid", 0.3), ("test", 0.1)] {
        let count = found
            .iter()
            .filter(|found| found.as_deref() == Some(part))
            .count();
        let share = count as f64 / 20_000.0;
        assert!((share - fraction).abs() < 0.02, "{part} has {share}");
    }
}

#[test]
fn keys_of_other_types_that_can_be_split_by() {
    use DataType as T;
    let packed = T::Dictionary(Box::new(T::Int8), Box::new(T::LargeUtf8));
    for (found, want) in [
        (T::Boolean, Some(KeyType::Bool)),
        (T::Int8, Some(KeyType::Int64)),
        (T::UInt64, Some(KeyType::Int64)),
        (T::Utf8View, Some(KeyType::String)),
        (packed, Some(KeyType::String)),
        (T::Null, Some(KeyType::String)),
        (T::FixedSizeBinary(3), Some(KeyType::Bytes)),
        (T::Float64, None),
        (T::Date32, None),
    ] {
        assert_eq!(hashed_as(&found), want, "{found}");
    }
    let nothing = batch(vec![("k", Arc::new(NullArray::new(3)))]);
    let found = parts("a=0.5,b=0.5", vec![key("k", KeyType::String)], &nothing);
    assert!(found.iter().all(|part| *part == found[0] && part.is_some()));
    let small = batch(vec![("k", Arc::new(Int8Array::from(vec![7])))]);
    let large = batch(vec![("k", Arc::new(UInt64Array::from(vec![7, u64::MAX])))]);
    let by = || vec![key("k", KeyType::Int32)];
    let split = "a=0.5,b=0.5";
    assert_eq!(
        parts(split, by(), &small)[0],
        parts(split, by(), &large.slice(0, 1))[0]
    );
    let planned = Split::new(split, None)
        .unwrap()
        .planned(by(), "at")
        .unwrap();
    let refused = planned.add(&large, &large.schema(), 10).unwrap_err();
    insta::assert_snapshot!(refused, @"entity row 12 has `18446744073709551615` in the column `k`, which does not fit its join key's type int64; correct or leave out that row");
}

#[test]
fn a_part_has_the_rows_before_its_moment_that_are_in_none_before_it() {
    let end: i64 = 1_378_000_000_000_000;
    let times = [
        Some(i64::MIN),
        Some(end - 1),
        Some(end),
        Some(end + 9),
        Some(end + 10),
        Some(i64::MAX),
        None,
    ];
    let times = TimestampMicrosecondArray::from(times.to_vec()).with_timezone("UTC");
    let rows = batch(vec![("at", Arc::new(times))]);
    let split = format!(
        "train={},valid={},test",
        Timestamp::from_micros(end),
        Timestamp::from_micros(end + 10)
    );
    let found = parts(&split, vec![], &rows);
    let found: Vec<Option<&str>> = found.iter().map(Option::as_deref).collect();
    let want = ["train", "train", "valid", "valid", "test", "test"].map(Some);
    assert_eq!(found[..6], want);
    assert_eq!(found[6], None, "a row without a time is in no part");
    let empty = rows.slice(0, 0);
    assert_eq!(parts(&split, vec![], &empty), Vec::<Option<String>>::new());
    let all = concat_batches(&rows.schema(), [&rows, &empty]).unwrap();
    assert_eq!(parts(&split, vec![], &all).len(), 7);
}
