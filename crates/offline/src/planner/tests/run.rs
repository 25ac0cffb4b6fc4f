use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, TimestampMicrosecondArray},
    compute::concat_batches,
    util::pretty::pretty_format_batches,
};
use datafusion::{catalog::TableProvider, datasource::MemTable, prelude::SessionContext};
use insta::assert_snapshot;
use vintner_core::Value as V;
use vintner_core::{ViewVersion, arrow_values};

use super::*;

fn times(micros: &[Option<i64>]) -> ArrayRef {
    Arc::new(
        micros
            .iter()
            .copied()
            .collect::<TimestampMicrosecondArray>()
            .with_timezone("UTC"),
    )
}

fn column(feature_type: F, values: &[Option<V>]) -> ArrayRef {
    arrow_values::column(feature_type, values.iter().map(Option::as_ref))
}

fn strings(values: &[&str]) -> ArrayRef {
    let values: Vec<Option<V>> = values
        .iter()
        .map(|v| Some(V::String((*v).to_owned())))
        .collect();
    column(F::Scalar(S::String), &values)
}

fn floats(values: &[f64]) -> ArrayRef {
    let values: Vec<Option<V>> = values.iter().map(|v| Some(V::Float64(*v))).collect();
    column(F::Scalar(S::Float64), &values)
}

fn ints(values: &[i32]) -> ArrayRef {
    let values: Vec<Option<V>> = values.iter().map(|v| Some(V::Int32(*v))).collect();
    column(F::Scalar(S::Int32), &values)
}

fn tables() -> BTreeMap<SourceName, Arc<dyn TableProvider>> {
    let data: [(&str, Vec<ArrayRef>); 3] = [
        (
            "weather",
            vec![
                strings(&["JFK", "LGA", "JFK"]),
                times(&[Some(1), Some(2), Some(3)]),
                times(&[Some(11), None, Some(13)]),
                floats(&[1.0, 2.0, 3.0]),
                floats(&[0.1, 0.2, 0.3]),
                floats(&[0.0, 1.0, 0.0]),
                column(F::Scalar(S::Float32), &[Some(V::Float32(1.5)), None, None]),
                ints(&[10, 20, 30]),
            ],
        ),
        (
            "flights",
            vec![
                strings(&["AA", "AA", "UA"]),
                strings(&["JFK", "JFK", "LGA"]),
                strings(&["N1", "N2", "N1"]),
                times(&[Some(5), Some(6), Some(7)]),
                column(
                    F::Scalar(S::Int64),
                    &[Some(V::Int64(10)), Some(V::Int64(20)), None],
                ),
            ],
        ),
        (
            "planes",
            vec![
                strings(&["N1", "N3"]),
                ints(&[1990, 2000]),
                ints(&[100, 200]),
            ],
        ),
    ];
    let catalog = catalog();
    data.into_iter()
        .map(|(name, columns)| {
            let schema = table_schema(&catalog[name].source.columns);
            let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
            let table = MemTable::try_new(schema, vec![vec![batch]]).unwrap();
            (
                name.parse().unwrap(),
                Arc::new(table) as Arc<dyn TableProvider>,
            )
        })
        .collect()
}

fn session() -> SessionContext {
    session::session(&session::EngineConfig::default()).unwrap()
}

fn revision(view: &ViewDefinition) -> ViewRevision {
    let id = ViewId {
        name: view.name.clone(),
        version: ViewVersion::FIRST,
    };
    planned(view).revision(id, Vec::new())
}

async fn rows(view: &ViewDefinition) -> RecordBatch {
    let plan = view_plan(&revision(view), &tables()).unwrap();
    let frame = session().execute_logical_plan(plan).await.unwrap();
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let batches = frame.collect().await.unwrap();
    let batch = concat_batches(&schema, &batches).unwrap();
    // Whatever the optimizer did, the columns are those that were promised.
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        assert_eq!(field.data_type(), column.data_type());
    }
    batch
}

async fn table(view: &ViewDefinition) -> String {
    let batch = rows(view).await;
    let lines = pretty_format_batches(&[batch]).unwrap().to_string();
    let mut lines: Vec<&str> = lines.lines().collect();
    let body = lines.len() - 1;
    lines[3..body].sort_unstable();
    lines.join("\n")
}

#[tokio::test]
async fn the_created_time_is_carried_through_queries_that_do_not_select_it() {
    assert_snapshot!(table(&query("origin", "
        WITH warm AS (SELECT *, temp * 2 AS twice FROM (SELECT * FROM weather w WHERE temp > 0))
        SELECT origin, observed_at, twice, precip > 0 AS raining FROM warm
        WHERE twice < 100 ORDER BY twice")).await, @"
    +--------+-----------------------------+-----------------------------+-------+---------+
    | origin | event_timestamp             | created_timestamp           | twice | raining |
    +--------+-----------------------------+-----------------------------+-------+---------+
    | JFK    | 1970-01-01T00:00:00.000001Z | 1970-01-01T00:00:00.000011Z | 2.0   | false   |
    | JFK    | 1970-01-01T00:00:00.000003Z | 1970-01-01T00:00:00.000013Z | 6.0   | false   |
    | LGA    | 1970-01-01T00:00:00.000002Z |                             | 4.0   | true    |
    +--------+-----------------------------+-----------------------------+-------+---------+
    ");
    assert_snapshot!(table(&query("origin", "
        SELECT w.origin, observed_at, p.seats FROM weather w LEFT JOIN planes p ON w.visib * 10 = p.seats")).await, @"
    +--------+-----------------------------+-----------------------------+-------+
    | origin | event_timestamp             | created_timestamp           | seats |
    +--------+-----------------------------+-----------------------------+-------+
    | JFK    | 1970-01-01T00:00:00.000001Z | 1970-01-01T00:00:00.000011Z | 100   |
    | JFK    | 1970-01-01T00:00:00.000003Z | 1970-01-01T00:00:00.000013Z |       |
    | LGA    | 1970-01-01T00:00:00.000002Z |                             | 200   |
    +--------+-----------------------------+-----------------------------+-------+
    ");
    assert_snapshot!(table(&query("origin", "
        SELECT w.origin, observed_at, p.seats FROM planes p JOIN weather w ON w.visib * 10 = p.seats")).await, @"
    +--------+-----------------------------+-----------------------------+-------+
    | origin | event_timestamp             | created_timestamp           | seats |
    +--------+-----------------------------+-----------------------------+-------+
    | JFK    | 1970-01-01T00:00:00.000001Z | 1970-01-01T00:00:00.000011Z | 100   |
    | LGA    | 1970-01-01T00:00:00.000002Z |                             | 200   |
    +--------+-----------------------------+-----------------------------+-------+
    ");
    assert_snapshot!(table(&query("origin", "
        SELECT origin, observed_at, unnest(make_array(temp, precip)) AS v FROM weather")).await, @"
    +--------+-----------------------------+-----------------------------+-----+
    | origin | event_timestamp             | created_timestamp           | v   |
    +--------+-----------------------------+-----------------------------+-----+
    | JFK    | 1970-01-01T00:00:00.000001Z | 1970-01-01T00:00:00.000011Z | 0.0 |
    | JFK    | 1970-01-01T00:00:00.000001Z | 1970-01-01T00:00:00.000011Z | 1.0 |
    | JFK    | 1970-01-01T00:00:00.000003Z | 1970-01-01T00:00:00.000013Z | 0.0 |
    | JFK    | 1970-01-01T00:00:00.000003Z | 1970-01-01T00:00:00.000013Z | 3.0 |
    | LGA    | 1970-01-01T00:00:00.000002Z |                             | 1.0 |
    | LGA    | 1970-01-01T00:00:00.000002Z |                             | 2.0 |
    +--------+-----------------------------+-----------------------------+-----+
    ");
    assert_snapshot!(table(&query("origin", "
        SELECT origin, observed_at, temp AS loaded_at FROM weather")).await, @"
    +--------+-----------------------------+-----------------------------+-----------+
    | origin | event_timestamp             | created_timestamp           | loaded_at |
    +--------+-----------------------------+-----------------------------+-----------+
    | JFK    | 1970-01-01T00:00:00.000001Z | 1970-01-01T00:00:00.000011Z | 1.0       |
    | JFK    | 1970-01-01T00:00:00.000003Z | 1970-01-01T00:00:00.000013Z | 3.0       |
    | LGA    | 1970-01-01T00:00:00.000002Z |                             | 2.0       |
    +--------+-----------------------------+-----------------------------+-----------+
    ");
}

#[tokio::test]
async fn without_a_created_time_the_column_is_null() {
    assert_snapshot!(table(&query("carrier", "
        SELECT carrier, date_trunc('second', time_hour) AS event_timestamp, avg(dep_delay) AS mean, count(*) AS n
        FROM flights GROUP BY 1, 2")).await, @"
    +---------+----------------------+-------------------+------+---+
    | carrier | event_timestamp      | created_timestamp | mean | n |
    +---------+----------------------+-------------------+------+---+
    | AA      | 1970-01-01T00:00:00Z |                   | 15.0 | 2 |
    | UA      | 1970-01-01T00:00:00Z |                   |      | 1 |
    +---------+----------------------+-------------------+------+---+
    ");
}

#[tokio::test]
async fn static_rows_have_been_true_since_the_beginning() {
    assert_snapshot!(table(&query("tailnum", "SELECT tailnum, seats, year FROM planes")).await, @"
    +---------+----------------------+----------------------+-------+------+
    | tailnum | event_timestamp      | created_timestamp    | seats | year |
    +---------+----------------------+----------------------+-------+------+
    | N1      | 0001-01-01T00:00:00Z | 0001-01-01T00:00:00Z | 100   | 1990 |
    | N3      | 0001-01-01T00:00:00Z | 0001-01-01T00:00:00Z | 200   | 2000 |
    +---------+----------------------+----------------------+-------+------+
    ");
}

#[tokio::test]
async fn every_column_has_exactly_its_type() {
    let batch = rows(&query("origin", "
        SELECT temp, origin, arrow_cast(origin, 'Dictionary(Int32, Utf8)') AS dict, CAST(temp AS DECIMAL(10, 2)) AS dec,
               CAST(observed_at AS DATE) AS day, arrow_cast(observed_at, 'Timestamp(Nanosecond, None)') AS ns,
               arrow_cast(visib, 'UInt64') AS big, make_array(visib) AS list, observed_at AS event_timestamp
        FROM weather")).await;
    let schema = batch.schema();
    let types: Vec<String> = schema
        .fields()
        .iter()
        .map(|f| format!("{}: {}", f.name(), f.data_type()))
        .collect();
    assert_snapshot!(types.join("\n"), @r#"
    origin: Utf8
    event_timestamp: Timestamp(µs, "UTC")
    created_timestamp: Timestamp(µs, "UTC")
    temp: Float64
    dict: Utf8
    dec: Float64
    day: Timestamp(µs, "UTC")
    ns: Timestamp(µs, "UTC")
    big: Int64
    list: List(Int32)
    "#);
}

#[tokio::test]
async fn a_narrower_join_key_is_widened() {
    let mut view = query("visib", "SELECT visib, observed_at, temp FROM weather");
    let key = JoinKey {
        name: "visib".parse().unwrap(),
        key_type: KeyType::Int64,
    };
    view.join_keys = KeySchema::new(vec![key]).unwrap();
    assert_eq!(
        rows(&view).await.column(0).data_type(),
        &KeyType::Int64.arrow()
    );
}

#[tokio::test]
async fn subqueries_read_the_tables_too() {
    assert_snapshot!(table(&query("origin", "
        SELECT origin, observed_at, (SELECT max(seats) FROM planes) AS most FROM weather
        WHERE EXISTS (SELECT 1 FROM flights WHERE flights.origin = weather.origin AND dep_delay IS NULL)")).await, @"
    +--------+-----------------------------+-------------------+------+
    | origin | event_timestamp             | created_timestamp | most |
    +--------+-----------------------------+-------------------+------+
    | LGA    | 1970-01-01T00:00:00.000002Z |                   | 200  |
    +--------+-----------------------------+-------------------+------+
    ");
}

#[test]
fn tables_that_no_longer_fit_are_refused() {
    let view = revision(&query(
        "origin",
        "SELECT origin, observed_at, temp FROM weather",
    ));
    let mut tables = tables();
    let planes = Arc::clone(&tables["planes"]);
    tables.insert("weather".parse().unwrap(), planes);
    assert_snapshot!(view_plan(&view, &tables).unwrap_err(), @"the query of `view@1` no longer fits its sources (the source `weather` has no column `origin`); run `plan` and `apply` again");
    tables.remove("weather");
    assert_snapshot!(view_plan(&view, &tables).unwrap_err(), @"the query of `view@1` no longer fits its sources (the query reads `weather`, which is not a declared source); run `plan` and `apply` again");
}
