//! What the columns of a query's output are: join keys, times, and features.
//!
//! The event timestamp is the column that the view's `event_timestamp` names; else the column `event_timestamp`; else
//! the event timestamp of the source that is followed, if it comes out under its own name. The created timestamp is
//! found likewise. These and the join keys are not features; every other column is.

use std::collections::BTreeSet;

use arrow::datatypes::Schema;
use datafusion::logical_expr::LogicalPlan;
use vintner_core::{ColumnName, FeatureField, FeatureName, FeatureType, ScalarType};
use vintner_registry::model::{Refresh, Source};

use super::{
    Catalog, ViewDefinition,
    contract::sql_type,
    created::carry,
    origin::{Node, passed_through},
    problem::{Finding, ProblemPlace},
    select::{Written, duplicate},
};
use crate::{
    delta::layout::{CREATED_TIMESTAMP, EVENT_TIMESTAMP},
    sources::widened,
};

/// The columns of a query's output by what they are, as indices into it.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// In the order of the join keys' names.
    pub(super) keys: Vec<usize>,
    /// None for a static view.
    pub(super) event: Option<usize>,
    pub(super) created: Created,
    /// In the query's order.
    pub(super) features: Vec<(usize, FeatureField)>,
}

/// Where the created time of a row comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Created {
    /// A column of the output.
    Column(usize),
    /// A column of the followed source, which the query does not select.
    Carried(ColumnName),
    /// There is none: the run's own time is recorded.
    #[default]
    Run,
}

/// What is known when the output is looked at.
pub(super) struct Planned<'a> {
    pub(super) view: &'a ViewDefinition,
    pub(super) catalog: &'a Catalog,
    /// The plan as written.
    pub(super) plan: &'a LogicalPlan,
    /// The types that running it gives.
    pub(super) types: &'a Schema,
    pub(super) refresh: &'a Refresh,
    /// What the view is made from, as written.
    pub(super) written: Written<'a>,
}

impl Planned<'_> {
    /// What the columns are, and what is wrong with them.
    pub(super) fn output(&self) -> (Output, Vec<Finding>) {
        let mut findings = Vec::new();
        self.duplicates(&mut findings);
        let keys = self.keys(&mut findings);
        let event = self.event(&mut findings);
        let created = self.created(&mut findings);
        let mut taken: BTreeSet<usize> = keys.iter().copied().collect();
        taken.extend(event);
        if let Created::Column(index) = created {
            taken.insert(index);
        }
        let features = self.features(&taken, &mut findings);
        self.contract(&features, &mut findings);
        let output = Output {
            keys,
            event,
            created,
            features,
        };
        (output, findings)
    }

    fn names(&self) -> Vec<&str> {
        self.types
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect()
    }

    pub(super) fn index(&self, name: &str) -> Option<usize> {
        self.names().iter().position(|found| *found == name)
    }

    fn feature_type(&self, index: usize) -> Option<FeatureType> {
        FeatureType::holding(self.types.fields().get(index)?.data_type()).ok()
    }

    fn duplicates(&self, findings: &mut Vec<Finding>) {
        let mut seen = BTreeSet::new();
        for (index, name) in self.names().into_iter().enumerate() {
            if !seen.insert(name) {
                findings.push(duplicate(self.written.place(index), name));
            }
        }
    }

    fn keys(&self, findings: &mut Vec<Finding>) -> Vec<usize> {
        let mut keys = Vec::new();
        for key in self.view.join_keys.join_keys() {
            let name = key.name.as_str();
            let Some(index) = self.index(name) else {
                let message = format!(
                    "the query gives no column `{name}`, which is a join key of the view's entities"
                );
                let finding = Finding::new(self.written.whole(), "plan::missing_join_key", message);
                findings.push(finding.nearest(name, self.names()));
                continue;
            };
            let wanted = FeatureType::Scalar(key.key_type.scalar());
            let found = self.feature_type(index);
            if found.and_then(|found| widened(found, wanted)) == Some(wanted) {
                keys.push(index);
                continue;
            }
            let found = found.map_or_else(|| self.arrow_name(index), |found| found.to_string());
            let message =
                format!("the join key `{name}` is {found} in the query and {wanted} in the entity");
            let finding = Finding::new(self.written.place(index), "plan::join_key_type", message);
            findings.push(finding.help(format!(
                "cast it: `CAST({} AS {}) AS {name}`",
                self.written.expression(index, name),
                sql_type(wanted)
            )));
        }
        keys
    }

    fn arrow_name(&self, index: usize) -> String {
        self.types
            .fields()
            .get(index)
            .map(|field| field.data_type().to_string())
            .unwrap_or_default()
    }

    fn event(&self, findings: &mut Vec<Finding>) -> Option<usize> {
        if let Refresh::Static { .. } = self.refresh {
            self.static_times(findings);
            return None;
        }
        let index = match &self.view.event_timestamp {
            Some(name) => self.named_time(name, EVENT_TIMESTAMP, findings)?,
            None => match self
                .index(EVENT_TIMESTAMP)
                .or_else(|| self.followed_event())
            {
                Some(index) => index,
                None => {
                    findings.push(self.no_event());
                    return None;
                }
            },
        };
        self.check_time(index, findings);
        Some(index)
    }

    /// The rows of a static view are true for ever.
    fn static_times(&self, findings: &mut Vec<Finding>) {
        let fields = [
            (&self.view.event_timestamp, EVENT_TIMESTAMP),
            (&self.view.created_timestamp, CREATED_TIMESTAMP),
        ];
        for (_, field) in fields.into_iter().filter(|(named, _)| named.is_some()) {
            let message = format!(
                "a view over static sources has no `{field}`: its rows have always been true"
            );
            let finding = Finding::new(ProblemPlace::Field(field), "plan::static_view", message);
            findings.push(finding.help(
                "leave it out, or give the source an `event_timestamp` in place of `static`",
            ));
        }
        if self.view.ttl.is_some() {
            let message = "a view over static sources has no `ttl`: its rows have always been true";
            let finding = Finding::new(ProblemPlace::Field("ttl"), "plan::static_view", message);
            findings.push(finding.help("leave it out"));
        }
    }

    fn named_time(
        &self,
        name: &ColumnName,
        field: &'static str,
        findings: &mut Vec<Finding>,
    ) -> Option<usize> {
        let index = self.index(name.as_str());
        if index.is_none() {
            let message = format!("the query gives no column `{name}`, which `{field}` names");
            let finding = Finding::new(ProblemPlace::Field(field), "plan::unknown_column", message);
            findings.push(finding.nearest(name.as_str(), self.names()));
        }
        index
    }

    fn check_time(&self, index: usize, findings: &mut Vec<Finding>) {
        let found = self.feature_type(index);
        if found == Some(FeatureType::Scalar(ScalarType::Timestamp)) {
            return;
        }
        let name = self.names().get(index).copied().unwrap_or_default();
        let found = found.map_or_else(|| self.arrow_name(index), |found| found.to_string());
        let message = format!("`{name}` is the rows' time, and is {found}, not timestamp");
        let expression = self.written.expression(index, name);
        let finding = Finding::new(self.written.place(index), "plan::time_type", message);
        findings.push(finding.help(match found.as_str() {
            "string" => format!("convert it: `CAST({expression} AS TIMESTAMP) AS {name}`"),
            _ => format!(
                "convert it: `to_timestamp_seconds({expression}) AS {name}`, or with `to_timestamp_millis`, \
                 `to_timestamp_micros`, `to_timestamp_nanos`"
            ),
        }));
    }

    /// The sources whose own time may be the rows' time.
    fn followed(&self) -> Vec<&Source> {
        match self.refresh {
            Refresh::RowLocal { source } => self
                .catalog
                .get(source)
                .map(|s| &s.source)
                .into_iter()
                .collect(),
            Refresh::Static { .. } => Vec::new(),
            Refresh::Windowed => super::refresh::sources(self.plan)
                .iter()
                .filter_map(|name| self.catalog.get(name))
                .map(|source| &source.source)
                .collect(),
        }
    }

    fn followed_event(&self) -> Option<usize> {
        self.passed(|source| source.event_timestamp.as_ref())
    }

    /// The first output column that is a followed source's, under its own name.
    fn passed(&self, column: impl Fn(&Source) -> Option<&ColumnName>) -> Option<usize> {
        self.followed().into_iter().find_map(|source| {
            let name = column(source)?.as_str();
            let index = self.index(name)?;
            let (table, found) = passed_through(Node::root(self.plan), index)?;
            (table.table_name.table() == source.name.as_str() && found == name).then_some(index)
        })
    }

    fn no_event(&self) -> Finding {
        let message = "the query gives no event timestamp, the time at which each row was true";
        let own = self.followed().into_iter().find_map(|source| {
            let column = source.event_timestamp.as_ref()?;
            Some(format!(
                "select `{column}`, the event timestamp of `{}`; or ",
                source.name
            ))
        });
        Finding::new(self.written.whole(), "plan::no_event_timestamp", message).help(format!(
            "{}name a column with `AS {EVENT_TIMESTAMP}`; or name one in the view's field `{EVENT_TIMESTAMP}`",
            own.unwrap_or_default()
        ))
    }

    fn created(&self, findings: &mut Vec<Finding>) -> Created {
        if let Refresh::Static { .. } = self.refresh {
            return Created::Run;
        }
        let named = match &self.view.created_timestamp {
            Some(name) => self.named_time(name, CREATED_TIMESTAMP, findings),
            None => self
                .index(CREATED_TIMESTAMP)
                .or_else(|| self.passed(|source| source.created_timestamp.as_ref())),
        };
        if let Some(index) = named {
            self.check_time(index, findings);
            return Created::Column(index);
        }
        let (Refresh::RowLocal { source }, Some(column)) = (
            self.refresh,
            self.followed()
                .first()
                .and_then(|s| s.created_timestamp.as_ref()),
        ) else {
            return Created::Run;
        };
        if !matches!(carry(self.plan, source, column.as_str()), Ok(Some(_))) {
            let message = format!(
                "`{column}`, the created timestamp of `{source}`, cannot be followed through the query"
            );
            let finding = Finding::new(self.written.whole(), "plan::created_timestamp", message);
            findings.push(finding.help(format!("select `{column}`")));
        }
        Created::Carried(column.clone())
    }

    fn features(
        &self,
        taken: &BTreeSet<usize>,
        findings: &mut Vec<Finding>,
    ) -> Vec<(usize, FeatureField)> {
        let mut features = Vec::new();
        let mut others = false;
        for (index, name) in self.names().into_iter().enumerate() {
            if taken.contains(&index)
                || self
                    .view
                    .join_keys
                    .join_keys()
                    .iter()
                    .any(|k| k.name.as_str() == name)
            {
                continue;
            }
            others = true;
            match self.feature(index, name) {
                Ok(feature) => features.push((index, feature)),
                Err(finding) => findings.push(finding),
            }
        }
        if !others {
            let message = "the query gives join keys and times only, and no feature";
            findings.push(
                Finding::new(self.written.whole(), "plan::no_features", message)
                    .help("select a column more"),
            );
        }
        features
    }

    fn feature(&self, index: usize, name: &str) -> Result<FeatureField, Finding> {
        let at = self.written.place(index);
        if name == EVENT_TIMESTAMP || name == CREATED_TIMESTAMP {
            let message = format!(
                "a feature cannot have the name `{name}`, which every view's table has for its rows' time"
            );
            return Err(Finding::new(at, "plan::reserved_name", message)
                .help("give it another name with AS"));
        }
        let parsed: FeatureName = name.parse().map_err(|_| {
            let message = format!(
                "the column `{}` has no name that a feature can have",
                self.written.column(index, name)
            );
            Finding::new(at.clone(), "plan::unusable_name", message)
                .help("give it one with AS: at most 63 letters, digits and `_`, not beginning with a digit")
        })?;
        let feature_type = self.feature_type(index).ok_or_else(|| {
            let found = self.arrow_name(index);
            let message = format!("`{name}` has the type {found}, which no feature can have");
            Finding::new(at, "plan::unusable_type", message).help(match found.as_str() {
                "Null" => format!("say which: `CAST(NULL AS DOUBLE) AS {name}`"),
                _ => "the types are bool, int32, int64, float32, float64, string, bytes, timestamp, and lists of \
                      these; select the parts that you need"
                    .to_owned(),
            })
        })?;
        let contract = self
            .view
            .contract
            .iter()
            .find(|feature| feature.name == parsed);
        Ok(FeatureField {
            name: parsed,
            feature_type,
            default: contract.and_then(|feature| feature.default.clone()),
            description: contract
                .map(|feature| feature.description.clone())
                .unwrap_or_default(),
        })
    }
}
