//! What to read: views with the layouts of their rows worked out, and the columns to make of them.

use std::sync::Arc;

use vintner_core::{FeatureField, FeatureType, Value};
use vintner_registry::{model::ViewRevision, selection::Selection};

use crate::row::RowReader;

/// What to read, with the layouts of its views worked out.
#[derive(Clone, Debug)]
pub struct ReadPlan {
    pub(super) views: Vec<PlannedView>,
    pub(super) columns: Vec<PlannedColumn>,
}

#[derive(Clone, Debug)]
pub(super) struct PlannedView {
    pub(super) revision: Arc<ViewRevision>,
    pub(super) reader: RowReader,
}

#[derive(Clone, Debug)]
pub(super) struct PlannedColumn {
    pub(super) view: usize,
    /// Its index among the features that the view's reader reads.
    pub(super) feature: usize,
    pub(super) name: String,
    pub(super) feature_type: FeatureType,
    pub(super) default: Option<Value>,
}

impl ReadPlan {
    /// The plan of a selection.
    ///
    /// # Panics
    /// When a column's view is not among the selection's views.
    pub fn new(selection: &Selection) -> Self {
        let mut features: Vec<Vec<FeatureField>> = vec![Vec::new(); selection.views.len()];
        let mut columns = Vec::with_capacity(selection.columns.len());
        for column in &selection.columns {
            let features = &mut features[column.view];
            columns.push(PlannedColumn {
                view: column.view,
                feature: features.len(),
                name: column.name.clone(),
                feature_type: column.feature.feature_type,
                default: column.feature.default.clone(),
            });
            features.push(column.feature.clone());
        }
        let views = selection.views.iter().zip(&features);
        let views = views.map(|(revision, features)| PlannedView {
            reader: RowReader::new(revision, features),
            revision: Arc::clone(revision),
        });
        Self {
            views: views.collect(),
            columns,
        }
    }

    /// The views, in the order in which [`find`](super::find) wants the entities' keys.
    pub fn views(&self) -> impl ExactSizeIterator<Item = &ViewRevision> {
        self.views.iter().map(|view| &*view.revision)
    }
}
