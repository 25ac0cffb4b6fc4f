//! Where features come from and where they go: from source columns over features to feature services.
//!
//! The planner traces each feature to its source columns; this puts the traces of all view versions and the services
//! together, to be asked in either direction.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use vintner_core::{FeatureName, FeatureRef, FeatureSelector, ServiceName, SourceName, ViewId};

use crate::{
    model::{Project, SourceColumn, ViewRevision},
    selection::pick,
};

/// One feature of one version of a view. Written `view@1:feature`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeatureId {
    /// The view and its version.
    pub view: ViewId,
    /// The feature.
    pub feature: FeatureName,
}

/// What of a project is made from what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    features: BTreeMap<FeatureId, Edges>,
}

/// What a feature is made from, and who gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Edges {
    columns: BTreeSet<SourceColumn>,
    services: BTreeSet<ServiceName>,
}

/// What would notice a change of a source column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Downstream {
    /// The features that are made from it, of all view versions that are known.
    pub features: BTreeSet<FeatureId>,
    /// The feature services that give one of those.
    pub services: BTreeSet<ServiceName>,
}

/// The lineage of a project: of every version of every view, and of every service.
pub fn lineage(project: &Project) -> Lineage {
    let revisions = project.views.values().flat_map(|v| v.revisions.values());
    let mut features: BTreeMap<FeatureId, Edges> = revisions.flat_map(traced).collect();
    for service in project.services.values() {
        // What was planned resolves; a service that does not gives nothing.
        for picked in pick(project, &service.features).into_iter().flatten() {
            let id = FeatureId {
                view: picked.revision.id.clone(),
                feature: picked.field.name.clone(),
            };
            let edges = features.entry(id).or_default();
            edges.services.insert(service.name.clone());
        }
    }
    Lineage { features }
}

fn traced(revision: &ViewRevision) -> impl Iterator<Item = (FeatureId, Edges)> {
    revision.features.iter().map(|field| {
        let columns = revision.lineage.get(&field.name).into_iter().flatten();
        let id = FeatureId {
            view: revision.id.clone(),
            feature: field.name.clone(),
        };
        let edges = Edges {
            columns: columns.cloned().collect(),
            services: BTreeSet::new(),
        };
        (id, edges)
    })
}

impl Lineage {
    /// The source columns that a feature is made from. Empty for a feature that is made from none, like a constant,
    /// and for one that there is not.
    pub fn upstream(&self, feature: &FeatureId) -> BTreeSet<&SourceColumn> {
        let edges = self.features.get(feature);
        edges.into_iter().flat_map(|edges| &edges.columns).collect()
    }

    /// The feature services that give a feature.
    pub fn services(&self, feature: &FeatureId) -> BTreeSet<&ServiceName> {
        let edges = self.features.get(feature);
        edges
            .into_iter()
            .flat_map(|edges| &edges.services)
            .collect()
    }

    /// What would notice a change of a source column.
    pub fn downstream(&self, column: &SourceColumn) -> Downstream {
        self.downstream_of(|other| other == column)
    }

    /// What would notice a change of any column of a source.
    pub fn downstream_of_source(&self, source: &SourceName) -> Downstream {
        self.downstream_of(|column| column.source == *source)
    }

    fn downstream_of(&self, is_meant: impl Fn(&SourceColumn) -> bool) -> Downstream {
        let mut downstream = Downstream::default();
        for (feature, edges) in &self.features {
            if edges.columns.iter().any(&is_meant) {
                downstream.features.insert(feature.clone());
                downstream.services.extend(edges.services.iter().cloned());
            }
        }
        downstream
    }

    /// The part of it that is about one view version.
    #[must_use]
    pub fn of_view(&self, view: &ViewId) -> Self {
        self.only(|feature, _| feature.view == *view)
    }

    /// The part of it that is about one service's features.
    #[must_use]
    pub fn of_service(&self, service: &ServiceName) -> Self {
        self.only(|_, edges| edges.services.contains(service))
    }

    fn only(&self, is_meant: impl Fn(&FeatureId, &Edges) -> bool) -> Self {
        let features = self.features.iter();
        Self {
            features: features
                .filter(|(feature, edges)| is_meant(feature, edges))
                .map(|(feature, edges)| (feature.clone(), edges.clone()))
                .collect(),
        }
    }

    /// The features, by view, version and name.
    pub fn features(&self) -> impl Iterator<Item = &FeatureId> {
        self.features.keys()
    }
}

/// One line for each feature: `columns -> feature -> services`. `-` stands for none.
impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn listed<T: fmt::Display>(items: &BTreeSet<T>) -> String {
            match items.len() {
                0 => "-".into(),
                _ => items
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", "),
            }
        }
        for (feature, edges) in &self.features {
            let (columns, services) = (listed(&edges.columns), listed(&edges.services));
            writeln!(f, "{columns} -> {feature} -> {services}")?;
        }
        Ok(())
    }
}

impl fmt::Display for FeatureId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.view, self.feature)
    }
}

/// A feature as a reference that pins its version.
impl From<FeatureId> for FeatureRef {
    fn from(id: FeatureId) -> Self {
        Self {
            view: id.view.name,
            version: Some(id.view.version),
            feature: FeatureSelector::One(id.feature),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{project_of, revision};

    fn project() -> Project {
        let column = |text: &str| {
            let (source, column) = text.split_once('.').unwrap();
            SourceColumn {
                source: source.parse().unwrap(),
                column: column.into(),
            }
        };
        let mut delays = revision("delays", "carrier: string", "mean: float64, one: int32");
        let mut set = |feature: &str, columns: &[&str]| {
            let columns = columns.iter().map(|text| column(text)).collect();
            delays.lineage.insert(feature.parse().unwrap(), columns);
        };
        set("mean", &["flights.dep_delay", "flights.arr_delay"]);
        set("one", &[]);
        project_of(
            [
                revision(
                    "weather@1",
                    "origin: string",
                    "temp: float64, gust: float64",
                ),
                revision("weather@2", "origin: string", "temp: float64"),
                delays,
            ],
            [
                ("model", "weather, delays:mean"),
                ("old", "weather@1:gust"),
                ("broken", "nothing"),
            ],
        )
    }

    fn id(text: &str) -> FeatureId {
        let (view, feature) = text.split_once(':').unwrap();
        FeatureId {
            view: view.parse().unwrap(),
            feature: feature.parse().unwrap(),
        }
    }

    fn column(source: &str, column: &str) -> SourceColumn {
        SourceColumn {
            source: source.parse().unwrap(),
            column: column.into(),
        }
    }

    #[test]
    fn every_feature_is_shown_with_its_columns_and_services() {
        let all = lineage(&project());
        insta::assert_snapshot!(all, @r"
        flights.arr_delay, flights.dep_delay -> delays@1:mean -> model
        - -> delays@1:one -> -
        events.gust -> weather@1:gust -> old
        events.temp -> weather@1:temp -> -
        events.temp -> weather@2:temp -> model
        ");
        insta::assert_snapshot!(all.of_view(&"weather@1".parse().unwrap()), @r"
        events.gust -> weather@1:gust -> old
        events.temp -> weather@1:temp -> -
        ");
        insta::assert_snapshot!(all.of_service(&"model".parse().unwrap()), @r"
        flights.arr_delay, flights.dep_delay -> delays@1:mean -> model
        events.temp -> weather@2:temp -> model
        ");
    }

    #[test]
    fn lineage_can_be_asked_in_both_directions() {
        let all = lineage(&project());
        let mean = all.upstream(&id("delays@1:mean"));
        let mean: Vec<_> = mean.iter().map(ToString::to_string).collect();
        assert_eq!(mean, ["flights.arr_delay", "flights.dep_delay"]);
        assert!(all.upstream(&id("delays@1:one")).is_empty());
        assert!(all.upstream(&id("delays@9:mean")).is_empty());
        let gust = all.services(&id("weather@1:gust"));
        assert_eq!(
            gust.into_iter().map(|s| s.as_str()).collect::<Vec<_>>(),
            ["old"]
        );

        let temp = all.downstream(&column("events", "temp"));
        let features: Vec<_> = temp.features.iter().map(ToString::to_string).collect();
        assert_eq!(features, ["weather@1:temp", "weather@2:temp"]);
        let services: Vec<_> = temp.services.iter().map(|s| s.as_str()).collect();
        assert_eq!(services, ["model"]);
        let events = all.downstream_of_source(&"events".parse().unwrap());
        assert_eq!((events.features.len(), events.services.len()), (3, 2));
        assert_eq!(
            all.downstream(&column("events", "rain")),
            Downstream::default()
        );
    }
}
