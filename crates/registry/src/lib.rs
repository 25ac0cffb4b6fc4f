//! The registry: what is applied, in versions that never change.
//!
//! Start at [`Snapshot`], one whole version. [`plan()`] works out what an apply would change and [`apply`] makes the
//! next snapshot of it; [`RegistryStore`] keeps the versions. [`select`] answers which columns a request asks for,
//! [`lineage()`] what is made from what.
//!
//! * Holds always: a [`Snapshot`] is resolved, so its readers look facts up and plan nothing; a version of a view that
//!   has had data never means anything else; of two writers of one registry version one wins.
//! * Units: instants and durations are microseconds, instants are UTC.
//! * Not here: YAML, SQL, Arrow, the data itself. Only [`store`] does I/O, and nothing reads a clock.
//!
//! ```
//! use vintner_core::{ProjectName, Timestamp};
//! use vintner_registry::{DesiredProject, Snapshot, apply, plan};
//!
//! let current = Snapshot::empty();
//! let project: ProjectName = "flights".parse()?;
//! let plan = plan(&current, &project, DesiredProject::default())?;
//! assert!(plan.is_empty());
//!
//! let next = apply(&plan, &current, "ann", "apply", Timestamp::from_micros(0))?;
//! assert_eq!(next.version.0, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod change;
pub mod codec;
pub mod lineage;
pub mod model;
pub mod plan;
pub mod selection;
pub mod store;

pub use change::{Action, Change, Diff, ObjectKind, ObjectRef, diff};
pub use lineage::{Downstream, FeatureId, Lineage, lineage};
pub use model::{
    About, Entity, FeatureService, Layout, Project, Refresh, Snapshot, Source, SourceColumn,
    SourceFormat, View, ViewInput, ViewRevision,
};
pub use plan::{
    DesiredProject, DesiredView, Plan, PlanError, PlanProblem, Stale, apply, plan, retire, rollback,
};
pub use selection::{
    FeatureRequest, NameStyle, SelectedColumn, Selection, SelectionError, SelectionProblem, select,
};
pub use store::{Location, OpenError, RegistryError, RegistryStore, VersionInfo, WriteError};

#[cfg(test)]
mod fixture;
