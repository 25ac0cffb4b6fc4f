//! The point-in-time join and the online read, as plain as they can be written: for every question, every row.
//!
//! Written from the words of "Visibility" in `docs/ARCHITECTURE.md`, in arithmetic that cannot overflow. It shares
//! the product's types and none of the code that decides what is visible or what wins.

use std::cmp::Ordering;

use vintner_core::{
    Boundary, FeatureType, KeyType, KeyValue, Knowledge, RowTime, Timestamp, Ttl, Value,
};

/// One row of a feature view.
#[derive(Clone, Debug)]
pub struct FeatureRow {
    /// The values of the view's join keys, in its order of them.
    pub keys: Vec<KeyValue>,
    /// When it was true and when it became known.
    pub time: RowTime,
    /// The values of the view's features, in its order of them.
    pub values: Vec<Option<Value>>,
}

/// One feature of a view.
#[derive(Clone, Debug)]
pub struct Feature {
    /// Its name; ties are decided in the order of these.
    pub name: String,
    /// Its type.
    pub feature_type: FeatureType,
    /// What takes the place of a null or missing value.
    pub default: Option<Value>,
}

/// A feature view and all its rows.
#[derive(Clone, Debug)]
pub struct View {
    /// Which of the case's key columns are its join keys.
    pub keys: Vec<usize>,
    /// How long a value counts.
    pub ttl: Option<Ttl>,
    /// Its features.
    pub features: Vec<Feature>,
    /// Its rows, in no order.
    pub rows: Vec<FeatureRow>,
}

/// One entity row.
#[derive(Clone, Debug)]
pub struct EntityRow {
    /// The values of the case's key columns.
    pub keys: Vec<Option<KeyValue>>,
    /// The moment that is asked about.
    pub time: Option<Timestamp>,
}

/// Everything a point-in-time join is given.
#[derive(Clone, Debug)]
pub struct JoinCase {
    /// The key columns of the entity rows: names and types.
    pub key_columns: Vec<(String, KeyType)>,
    /// The entity rows.
    pub entity_rows: Vec<EntityRow>,
    /// The views.
    pub views: Vec<View>,
    /// The output columns: a view and one of its features, each by number.
    pub outputs: Vec<(usize, usize)>,
    /// Whether rows must have arrived.
    pub knowledge: Knowledge,
    /// Whether rows at exactly the moment count.
    pub boundary: Boundary,
}

/// What an online read says about one feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnlineCell {
    /// The stored value.
    Present(Value),
    /// The row that counts has a null.
    NullValue,
    /// There is no row.
    NotFound,
    /// There is a row, and its ttl has run out.
    OutsideMaxAge,
}

/// The answer to a join: per entity row, one value per output column.
pub fn join(case: &JoinCase) -> Vec<Vec<Option<Value>>> {
    let mut answer = Vec::new();
    for entity_row in &case.entity_rows {
        let mut line = Vec::new();
        for &(view, feature) in &case.outputs {
            let view = &case.views[view];
            let mut value = None;
            if let Some(row) = winner(view, entity_row, case.knowledge, case.boundary) {
                value = row.values[feature].clone();
            }
            if value.is_none() {
                value = view.features[feature].default.clone();
            }
            line.push(value);
        }
        answer.push(line);
    }
    answer
}

/// How many entity rows have a visible row in a view.
pub fn matched(case: &JoinCase, view: usize) -> usize {
    let view = &case.views[view];
    let mut count = 0;
    for entity_row in &case.entity_rows {
        if winner(view, entity_row, case.knowledge, case.boundary).is_some() {
            count += 1;
        }
    }
    count
}

/// What a lint counts of one view: entity rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lint {
    /// With a time and all of the view's keys.
    pub asking: usize,
    /// Of these, those before the view's first row, whatever its key.
    pub before_first: usize,
    /// That see nothing, and would see a row without the ttl.
    pub expired: usize,
    /// That see a row which arrived after their time.
    pub late: usize,
    /// That see a row of their own time.
    pub own_time: usize,
    /// For which each feature of the view is null or missing, its default aside.
    pub nulls: Vec<usize>,
}

/// The counts of one view.
pub fn lint(case: &JoinCase, view: usize) -> Lint {
    let view = &case.views[view];
    let mut for_ever = view.clone();
    for_ever.ttl = None;
    let mut lint = Lint {
        asking: 0,
        before_first: 0,
        expired: 0,
        late: 0,
        own_time: 0,
        nulls: vec![0; view.features.len()],
    };
    for entity_row in &case.entity_rows {
        let row = winner(view, entity_row, case.knowledge, case.boundary);
        for feature in 0..view.features.len() {
            if row.is_none_or(|row| row.values[feature].is_none()) {
                lint.nulls[feature] += 1;
            }
        }
        let Some(at) = entity_row.time else { continue };
        if view
            .keys
            .iter()
            .any(|&column| entity_row.keys[column].is_none())
        {
            continue;
        }
        lint.asking += 1;
        let mut something_was = false;
        for row in &view.rows {
            something_was |= match case.boundary {
                Boundary::At => row.time.event.micros() <= at.micros(),
                Boundary::Before => row.time.event.micros() < at.micros(),
            };
        }
        if !something_was {
            lint.before_first += 1;
        }
        match row {
            None => {
                if winner(&for_ever, entity_row, case.knowledge, case.boundary).is_some() {
                    lint.expired += 1;
                }
            }
            Some(row) => {
                if row.time.created.micros() > at.micros() {
                    lint.late += 1;
                }
                if row.time.event.micros() == at.micros() {
                    lint.own_time += 1;
                }
            }
        }
    }
    lint
}

/// The row of a view that an entity row sees; none when its time or one of the view's keys is null.
pub fn winner<'a>(
    view: &'a View,
    entity_row: &EntityRow,
    knowledge: Knowledge,
    boundary: Boundary,
) -> Option<&'a FeatureRow> {
    let at = entity_row.time?;
    let mut best: Option<&FeatureRow> = None;
    for row in &view.rows {
        if !same_key(view, row, entity_row) {
            continue;
        }
        if !visible(row.time, at, view.ttl, knowledge, boundary) {
            continue;
        }
        if best.is_none_or(|best| compare_rows(view, row, best) == Ordering::Greater) {
            best = Some(row);
        }
    }
    best
}

/// The keys that are known at moments: for each moment, in the order given, every key of which some view has a row that
/// counts then, whatever its ttl; in the order of the keys. All views have all key columns as their join keys.
pub fn known(case: &JoinCase, moments: &[Timestamp]) -> Vec<EntityRow> {
    let mut keys: Vec<&Vec<KeyValue>> = Vec::new();
    for row in case.views.iter().flat_map(|view| &view.rows) {
        if !keys.contains(&&row.keys) {
            keys.push(&row.keys);
        }
    }
    keys.sort();
    let mut known = Vec::new();
    for &at in moments {
        for key in &keys {
            let mut counts = false;
            for row in case.views.iter().flat_map(|view| &view.rows) {
                if row.keys == **key && visible(row.time, at, None, case.knowledge, case.boundary) {
                    counts = true;
                }
            }
            if counts {
                known.push(EntityRow {
                    keys: key.iter().cloned().map(Some).collect(),
                    time: Some(at),
                });
            }
        }
    }
    known
}

/// What an online read at `now` gives for a key: one cell per feature, and the event time of the row behind them.
/// Defaults are not filled in.
pub fn online(
    view: &View,
    keys: &[KeyValue],
    now: Timestamp,
) -> (Vec<OnlineCell>, Option<Timestamp>) {
    let mut latest: Option<&FeatureRow> = None;
    for row in &view.rows {
        let has_come = row.time.event.micros() <= now.micros();
        if row.keys != keys || !has_come {
            continue;
        }
        if latest.is_none_or(|latest| compare_rows(view, row, latest) == Ordering::Greater) {
            latest = Some(row);
        }
    }
    let Some(row) = latest else {
        return (vec![OnlineCell::NotFound; view.features.len()], None);
    };
    let fresh = visible(row.time, now, view.ttl, Knowledge::Event, Boundary::At);
    let mut cells = Vec::new();
    for value in &row.values {
        cells.push(match value {
            _ if !fresh => OnlineCell::OutsideMaxAge,
            Some(value) => OnlineCell::Present(value.clone()),
            None => OnlineCell::NullValue,
        });
    }
    (cells, Some(row.time.event))
}

fn same_key(view: &View, row: &FeatureRow, entity_row: &EntityRow) -> bool {
    for (value, &column) in row.keys.iter().zip(&view.keys) {
        if entity_row.keys[column].as_ref() != Some(value) {
            return false;
        }
    }
    true
}

/// "`r.event_timestamp <= t`, and, with a TTL, `r.event_timestamp >= t - d`"; available: "then also
/// `r.created_timestamp <= t`"; before: "then `r.event_timestamp < t`".
fn visible(
    row: RowTime,
    at: Timestamp,
    ttl: Option<Ttl>,
    knowledge: Knowledge,
    boundary: Boundary,
) -> bool {
    let t = i128::from(at.micros());
    let event = i128::from(row.event.micros());
    let created = i128::from(row.created.micros());
    if event > t {
        return false;
    }
    if boundary == Boundary::Before && event == t {
        return false;
    }
    if knowledge == Knowledge::Available && created > t {
        return false;
    }
    if let Some(ttl) = ttl {
        let oldest = t - i128::from(ttl.micros());
        if event < oldest {
            return false;
        }
    }
    true
}

/// "The greatest `(event_timestamp, created_timestamp)` wins"; a tie goes to the greater values, feature by feature in
/// the order of the features' names.
pub fn compare_rows(view: &View, a: &FeatureRow, b: &FeatureRow) -> Ordering {
    let by_event = a.time.event.micros().cmp(&b.time.event.micros());
    if by_event != Ordering::Equal {
        return by_event;
    }
    let by_created = a.time.created.micros().cmp(&b.time.created.micros());
    if by_created != Ordering::Equal {
        return by_created;
    }
    let mut order: Vec<usize> = (0..view.features.len()).collect();
    order.sort_by_key(|&i| &view.features[i].name);
    for i in order {
        let by_value = compare_values(a.values[i].as_ref(), b.values[i].as_ref());
        if by_value != Ordering::Equal {
            return by_value;
        }
    }
    Ordering::Equal
}

/// Null is smaller than any value; floats by IEEE total order; lists element by element, then by length.
fn compare_values(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    let (a, b) = match (a, b) {
        (None, None) => return Ordering::Equal,
        (None, Some(_)) => return Ordering::Less,
        (Some(_), None) => return Ordering::Greater,
        (Some(a), Some(b)) => (a, b),
    };
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Int32(a), Value::Int32(b)) => a.cmp(b),
        (Value::Int64(a), Value::Int64(b)) => a.cmp(b),
        (Value::Float32(a), Value::Float32(b)) => a.total_cmp(b),
        (Value::Float64(a), Value::Float64(b)) => a.total_cmp(b),
        (Value::String(a), Value::String(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.micros().cmp(&b.micros()),
        (Value::List(_, a), Value::List(_, b)) => {
            for (a, b) in a.iter().zip(b) {
                let by_element = compare_values(a.as_ref(), b.as_ref());
                if by_element != Ordering::Equal {
                    return by_element;
                }
            }
            a.len().cmp(&b.len())
        }
        _ => panic!("two values of one feature have different types: {a:?} and {b:?}"),
    }
}

#[cfg(test)]
mod tests {
    use vintner_core::ScalarType;

    use super::*;

    fn us(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn view(ttl: u64, rows: &[(i64, i64, Option<i64>)]) -> View {
        View {
            keys: vec![0],
            ttl: Ttl::from_micros(ttl),
            features: vec![Feature {
                name: "f".into(),
                feature_type: FeatureType::Scalar(ScalarType::Int64),
                default: None,
            }],
            rows: rows
                .iter()
                .map(|&(event, created, value)| FeatureRow {
                    keys: vec![KeyValue::Int64(1)],
                    time: RowTime {
                        event: us(event),
                        created: us(created),
                    },
                    values: vec![value.map(Value::Int64)],
                })
                .collect(),
        }
    }

    fn seen(view: &View, at: i64, knowledge: Knowledge, boundary: Boundary) -> Option<i64> {
        let entity_row = EntityRow {
            keys: vec![Some(KeyValue::Int64(1))],
            time: Some(us(at)),
        };
        let row = winner(view, &entity_row, knowledge, boundary)?;
        Some(row.time.event.micros())
    }

    /// The oracle's own anchor: DESIGN.md's sentences, worked by hand.
    #[test]
    fn the_oracle_says_what_the_words_say() {
        use {Boundary::*, Knowledge::*};
        let rows = view(5, &[(10, 12, Some(1)), (8, 8, Some(2))]);
        for (at, knowledge, boundary, want) in [
            (7, Event, At, None),
            (8, Event, At, Some(8)),
            (8, Event, Before, None),
            (9, Event, Before, Some(8)),
            (10, Event, At, Some(10)),
            (10, Event, Before, Some(8)),
            (11, Available, At, Some(8)),
            (12, Available, At, Some(10)),
            (15, Event, At, Some(10)),
            (16, Event, At, None),
        ] {
            assert_eq!(
                seen(&rows, at, knowledge, boundary),
                want,
                "{at} {knowledge:?} {boundary:?}"
            );
        }
    }

    #[test]
    fn a_key_is_known_from_its_first_row_on() {
        use {Boundary::*, Knowledge::*};
        let case = |knowledge, boundary| JoinCase {
            key_columns: vec![("k0".into(), KeyType::Int64)],
            entity_rows: vec![],
            views: vec![
                view(5, &[(10, 12, None), (30, 30, None)]),
                view(1, &[(20, 7, None)]),
            ],
            outputs: vec![],
            knowledge,
            boundary,
        };
        for (knowledge, boundary, want) in [
            (Event, At, &[10, 11, 12, 100][..]),
            (Event, Before, &[11, 12, 100]),
            (Available, At, &[12, 100]),
            (Available, Before, &[12, 100]),
        ] {
            let moments = [9, 10, 11, 12, 100].map(us);
            let known = known(&case(knowledge, boundary), &moments);
            let at: Vec<_> = known.iter().map(|row| row.time.unwrap().micros()).collect();
            assert_eq!(at, want, "{knowledge:?} {boundary:?}");
        }
    }

    #[test]
    fn an_online_read_says_what_it_found() {
        let rows = view(5, &[(10, 12, None), (8, 8, Some(2))]);
        let key = [KeyValue::Int64(1)];
        for (now, want) in [
            (7, OnlineCell::NotFound),
            (8, OnlineCell::Present(Value::Int64(2))),
            (10, OnlineCell::NullValue),
            (15, OnlineCell::NullValue),
            (16, OnlineCell::OutsideMaxAge),
        ] {
            assert_eq!(online(&rows, &key, us(now)).0, [want], "{now}");
        }
        assert_eq!(online(&rows, &[KeyValue::Int64(2)], us(10)).1, None);
    }

    #[test]
    fn a_tie_goes_to_the_greater_value_and_null_is_the_smallest() {
        for (a, b) in [
            (None, Some(Value::Int64(i64::MIN))),
            (Some(Value::Float64(-0.0)), Some(Value::Float64(0.0))),
            (
                Some(Value::Float64(f64::INFINITY)),
                Some(Value::Float64(f64::NAN)),
            ),
            (
                Some(Value::Float64(-f64::NAN)),
                Some(Value::Float64(f64::NEG_INFINITY)),
            ),
            (Some(Value::Bool(false)), Some(Value::Bool(true))),
            (
                Some(Value::String("Z".into())),
                Some(Value::String("a".into())),
            ),
            (
                Some(Value::List(ScalarType::Int32, vec![None])),
                Some(Value::List(ScalarType::Int32, vec![None, None])),
            ),
            (
                Some(Value::List(ScalarType::Int32, vec![None, None])),
                Some(Value::List(ScalarType::Int32, vec![Some(Value::Int32(0))])),
            ),
        ] {
            assert_eq!(
                compare_values(a.as_ref(), b.as_ref()),
                Ordering::Less,
                "{a:?} {b:?}"
            );
            assert_eq!(
                compare_values(b.as_ref(), a.as_ref()),
                Ordering::Greater,
                "{a:?} {b:?}"
            );
        }
    }
}
