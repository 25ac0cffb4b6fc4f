//! Queries for entity rows: what they read, in which order, and every mistake in them.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    compute::concat_batches,
    util::pretty::pretty_format_batches,
};
use datafusion::{
    catalog::{MemTable, TableProvider},
    physical_plan::common,
};
use insta::assert_snapshot;
use vintner_core::ViewVersion;
use vintner_registry::model::{Project, View};

use super::*;
use crate::{
    delta::ViewLayout,
    planner::session::{EngineConfig, session},
    spine::query_rows,
};

/// The small world as it is applied: its sources, and the views `weather`, as one of them is called, and `seats`.
fn project() -> Project {
    let known = catalog();
    let sources = known
        .values()
        .map(|source| (source.source.name.clone(), source.source.clone()));
    let mut project = Project {
        sources: sources.collect(),
        ..Project::default()
    };
    for (name, key, sql) in [
        (
            "weather",
            "origin",
            "SELECT origin, observed_at, temp FROM weather",
        ),
        (
            "seats",
            "tailnum",
            "SELECT tailnum, seats AS Places FROM planes",
        ),
        ("online", "tailnum", "SELECT tailnum, year FROM planes"),
    ] {
        let mut definition = query(key, sql);
        definition.name = name.parse().unwrap();
        definition.offline = name != "online";
        let planned = plan_view(&definition, &known).unwrap();
        let id = format!("{name}@2").parse().unwrap();
        let view = View {
            name: definition.name.clone(),
            revisions: [(ViewVersion::FIRST, planned.revision(id, vec![]))].into(),
        };
        project.views.insert(definition.name, view);
    }
    project
}

fn planned(sql: &str) -> EntityQuery {
    plan_entity_query(sql, &project()).unwrap_or_else(|error| panic!("{error}"))
}

fn problems(sql: &str) -> String {
    match plan_entity_query(sql, &project()) {
        Ok(planned) => panic!("planned: {:?}", planned.tables().keys()),
        Err(error) => error.to_string(),
    }
}

/// The columns of a query, and which tables it reads.
fn facts(sql: &str) -> String {
    let planned = planned(sql);
    let columns = planned.schema().fields().iter();
    let columns: Vec<_> = columns
        .map(|field| format!("{} {}", field.name(), field.data_type()))
        .collect();
    let tables = planned.tables().iter().map(|(name, table)| match table {
        QueryTable::View(view) => format!("{name} is {}", view.id),
        QueryTable::Source(source) => format!("{name} is source {}", source.name),
    });
    let tables: Vec<_> = tables.collect();
    format!("{} from {}", columns.join(", "), tables.join(", "))
}

#[test]
fn views_and_sources_are_read_by_their_names() {
    assert_snapshot!(facts("SELECT * FROM seats"), @r#"tailnum Utf8, event_timestamp Timestamp(µs, "UTC"), created_timestamp Timestamp(µs, "UTC"), Places Int32 from seats is seats@2"#);
    assert_snapshot!(facts("SELECT TAILNUM, time_hour AS event_timestamp FROM Flights"), @r#"tailnum Utf8, event_timestamp Timestamp(µs, "UTC") from flights is source flights"#);
    assert_snapshot!(facts("SELECT f.tailnum, places + 1 AS more FROM flights f JOIN seats USING (tailnum)"), @"tailnum Utf8, more Int64 from flights is source flights, seats is seats@2");
    assert_snapshot!(facts("SELECT weather.temp, created_timestamp FROM view.weather"), @r#"temp Float64, created_timestamp Timestamp(µs, "UTC") from view.weather is weather@2"#);
    assert_snapshot!(facts("SELECT visib FROM Source.Weather"), @"visib Int32 from source.weather is source weather");
    assert_snapshot!(facts("SELECT a.temp, b.visib FROM view.weather a JOIN source.weather AS b USING (origin)"), @"temp Float64, visib Int32 from source.weather is source weather, view.weather is weather@2");
    assert_snapshot!(facts("SELECT places FROM view.seats"), @"Places Int32 from seats is seats@2");
    assert_snapshot!(facts("WITH weather AS (SELECT 1 AS n FROM seats) SELECT n FROM weather"), @"n Int64 from seats is seats@2");
}

#[test]
fn what_is_wrong_is_told_with_what_is_there() {
    assert_snapshot!(problems("SELECT plces,\n  tailnmu FROM seats"), @"
    the query for entity rows cannot be planned
    line 1, column 8: the feature view `seats` has no column `plces`; did you mean `Places`?
    line 2, column 3: the feature view `seats` has no column `tailnmu`; did you mean `tailnum`?
    ");
    assert_snapshot!(problems("SELECT nothing_like_it FROM seats JOIN flights USING (tailnum)"), @"
    the query for entity rows cannot be planned
    line 1, column 8: none of the tables `flights`, `seats` has a column `nothing_like_it`; there are `carrier`, `origin`, `tailnum`, `time_hour`, `dep_delay`, `tailnum`, `event_timestamp`, `created_timestamp`, `Places`
    ");
    assert_snapshot!(problems("SELECT * FROM seat JOIN pilots USING (tailnum)"), @"
    the query for entity rows cannot be planned
    line 1, column 15: the query reads `seat`, which is neither a feature view nor a source; did you mean `seats`?
    line 1, column 25: the query reads `pilots`, which is neither a feature view nor a source; there are `flights`, `online`, `planes`, `seats`, `source.weather`, `view.weather`
    ");
    assert_snapshot!(problems("SELECT temp FROM Weather"), @"
    the query for entity rows cannot be planned
    line 1, column 18: `Weather` is the name of a feature view and of a source; write `source.weather` or `view.weather`
    ");
    assert_snapshot!(problems("SELECT visib FROM view.weather"), @"
    the query for entity rows cannot be planned
    line 1, column 8: the feature view `view.weather` has no column `visib`; there are `origin`, `event_timestamp`, `created_timestamp`, `temp`
    ");
    assert_snapshot!(problems("SELECT * FROM source.seats"), @"
    the query for entity rows cannot be planned
    line 1, column 15: the query reads `source.seats`, which is neither a feature view nor a source; did you mean `source.weather`?
    ");
    assert_snapshot!(problems("SELECT tailnum, tailnum FROM seats"), @"
    the query for entity rows cannot be planned
    line 1, column 17: the query gives two columns `tailnum`; leave one of them out, or give it another name with AS
    ");
    assert_snapshot!(problems("SELECT year FROM online"), @"
    the query for entity rows cannot be planned
    the feature view `online@2` is not in the offline store: it says `offline: false`
    ");
    assert_snapshot!(problems("SELECT 1 AS n"), @"
    the query for entity rows cannot be planned
    the query reads no feature view and no source; there are `flights`, `online`, `planes`, `seats`, `source.weather`, `view.weather`
    ");
    assert_snapshot!(problems("SELECT max(tailnum) FROM seats GROUP BY tailnum HAVING sum(tailnum) > 1"), @"
    the query for entity rows cannot be planned
    line 1, column 56: `sum()` does not take these types: `sum(Utf8)`; cast the arguments to types that it takes
    ");
}

#[test]
fn only_what_reads_and_gives_the_same_rows_again_is_planned() {
    assert_snapshot!(problems("DROP TABLE seats"), @"
    the query for entity rows cannot be planned
    a query for entity rows only reads, and `DROP` does not; write a SELECT over the feature views and sources
    ");
    assert_snapshot!(problems("SELECT 1; SELECT 2"), @"
    the query for entity rows cannot be planned
    line 1, column 11: the query is more than one statement; write one SELECT; use `WITH name AS (SELECT …)` for steps in between
    ");
    assert_snapshot!(problems(""), @"
    the query for entity rows cannot be planned
    the query is empty; write a SELECT over the feature views and sources
    ");
    assert_snapshot!(problems("WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n FROM r) SELECT n FROM r"), @"
    the query for entity rows cannot be planned
    a query for entity rows cannot be recursive; leave RECURSIVE out, and make such a table before, as a source
    ");
    assert_snapshot!(problems("SELECT tailnum, now() AS event_timestamp, random() AS r FROM seats LIMIT 3"), @"
    the query for entity rows cannot be planned
    line 1, column 17: `now()` gives another answer each time, so the same rows could not be made again; write the moment itself, like `TIMESTAMP '2013-01-01T00:00:00Z'`
    line 1, column 43: `random()` gives another answer each time, so the same rows could not be made again; make a value from the columns, such as `md5(key)`
    line 1, column 74: LIMIT without ORDER BY keeps other rows each time; add an ORDER BY that leaves no ties
    ");
}

/// A table with the columns of `schema`, of which those that are named have values and the others are null.
fn table(
    schema: &arrow::datatypes::SchemaRef,
    columns: &[(&str, ArrayRef)],
) -> Arc<dyn TableProvider> {
    let rows = columns[0].1.len();
    let values = schema.fields().iter().map(|field| {
        let given = columns.iter().find(|(name, _)| name == field.name());
        let nothing = || arrow::array::new_null_array(field.data_type(), rows);
        given.map_or_else(nothing, |(_, column)| Arc::clone(column))
    });
    let fields = schema
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true));
    let schema = Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(Arc::clone(&schema), values.collect()).unwrap();
    // In several partitions, so that rows come in no order by themselves.
    let partitions = (0..rows).map(|row| vec![batch.slice(row, 1)]).collect();
    Arc::new(MemTable::try_new(schema, partitions).unwrap())
}

async fn rows(sql: &str) -> String {
    let query = planned(sql);
    let planes: ArrayRef = Arc::new(StringArray::from(vec!["N3", "N1", "N2", "N1"]));
    let hours = TimestampMicrosecondArray::from(vec![30, 20, 10, 5]).with_timezone("UTC");
    let delays: ArrayRef = Arc::new(Int64Array::from(vec![Some(3), None, Some(2), Some(1)]));
    let tables: BTreeMap<String, Arc<dyn TableProvider>> = query
        .tables()
        .iter()
        .map(|(name, read)| {
            let schema = match read {
                QueryTable::View(view) => Arc::clone(ViewLayout::of(view).arrow()),
                QueryTable::Source(source) => table_schema(&source.columns),
            };
            let columns = [
                ("tailnum", Arc::clone(&planes)),
                ("time_hour", Arc::new(hours.clone()) as ArrayRef),
                ("dep_delay", Arc::clone(&delays)),
            ];
            (name.clone(), table(&schema, &columns))
        })
        .collect();
    let session = session(&EngineConfig::default()).unwrap();
    let schema = Arc::clone(query.schema());
    let batches = common::collect(query_rows(query, session, tables))
        .await
        .unwrap();
    let all = concat_batches(&schema, &batches).unwrap();
    pretty_format_batches(&[all]).unwrap().to_string()
}

#[tokio::test]
async fn rows_come_in_the_order_of_the_query_or_of_their_columns() {
    assert_snapshot!(rows("SELECT tailnum, dep_delay, time_hour AS at FROM flights").await, @"
    +---------+-----------+-----------------------------+
    | tailnum | dep_delay | at                          |
    +---------+-----------+-----------------------------+
    | N1      | 1         | 1970-01-01T00:00:00.000005Z |
    | N1      |           | 1970-01-01T00:00:00.000020Z |
    | N2      | 2         | 1970-01-01T00:00:00.000010Z |
    | N3      | 3         | 1970-01-01T00:00:00.000030Z |
    +---------+-----------+-----------------------------+
    ");
    assert_snapshot!(rows("SELECT tailnum FROM flights ORDER BY time_hour DESC").await, @"
    +---------+
    | tailnum |
    +---------+
    | N3      |
    | N1      |
    | N2      |
    | N1      |
    +---------+
    ");
    assert_snapshot!(rows("SELECT make_array(dep_delay) AS list, tailnum FROM flights WHERE dep_delay IN (SELECT max(dep_delay) FROM flights)").await, @"
    +------+---------+
    | list | tailnum |
    +------+---------+
    | [3]  | N3      |
    +------+---------+
    ");
}
