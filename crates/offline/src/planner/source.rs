//! Whether a source has the time columns that it declares.

use vintner_core::{FeatureType, ScalarType, SourceName, nearest::nearest};

use super::KnownSource;

const WRONG_TYPE: &str = "source::time_type";

/// One mistake in a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceProblem {
    /// The source.
    pub source: SourceName,
    /// The field of its declaration.
    pub field: &'static str,
    /// What kind of mistake, for programs.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// What is wrong with a source's time columns. Nothing is said of a source that could not be read, nor of the type of
/// an event timestamp: a view's query may convert it, and is told where it does not.
pub fn check_source(known: &KnownSource) -> Vec<SourceProblem> {
    if !known.is_read {
        return Vec::new();
    }
    let source = &known.source;
    let declared = [
        ("event_timestamp", &source.event_timestamp),
        ("created_timestamp", &source.created_timestamp),
    ];
    declared
        .into_iter()
        .filter_map(|(field, column)| {
            let column = column.as_ref()?;
            let (code, message, help) = check_time(known, column.as_str())?;
            if (field, code) == ("event_timestamp", WRONG_TYPE) {
                return None;
            }
            Some(SourceProblem {
                source: source.name.clone(),
                field,
                code,
                message,
                help,
            })
        })
        .collect()
}

fn check_time(known: &KnownSource, column: &str) -> Option<(&'static str, String, Option<String>)> {
    let columns = &known.source.columns;
    if let Some(left_out) = known
        .left_out
        .iter()
        .find(|left_out| left_out.column == column)
    {
        let message = format!("the column `{column}` {}", left_out.reason);
        return Some((WRONG_TYPE, message, None));
    }
    match columns.iter().find(|(name, _)| name == column) {
        Some((_, FeatureType::Scalar(ScalarType::Timestamp))) => None,
        Some((_, found)) => {
            let message = format!("the column `{column}` is {found}, not timestamp");
            let help = "write times as timestamps; or leave the field out, and convert the column in the view's query \
                        `AS created_timestamp`";
            Some((WRONG_TYPE, message, Some(help.to_owned())))
        }
        None => {
            let message = format!("the source has no column `{column}`");
            let near = nearest(column, columns.iter().map(|(name, _)| name.as_str()));
            let help = near.map(|near| format!("did you mean `{near}`?"));
            Some(("source::unknown_column", message, help))
        }
    }
}
