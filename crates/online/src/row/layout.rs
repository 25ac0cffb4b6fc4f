//! Where the features of a layout are in a packed row.

use vintner_core::{FeatureName, FeatureType, ScalarType};
use vintner_registry::model::Layout;

use super::HEADER_BYTES;

/// A registry layout with the place of every feature worked out, once, for any number of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowLayout {
    pub(super) fingerprint: u32,
    pub(super) slots: Vec<Slot>,
    /// Where the fixed part ends and the variable part begins.
    pub(super) variable_at: usize,
    /// Where the end of the last variable-width value is written, if there is one.
    pub(super) last_end_at: Option<usize>,
}

/// The place of one feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) name: FeatureName,
    pub(super) feature_type: FeatureType,
    /// Where its fixed-width value, or the end of its variable-width value, is written.
    pub(super) at: usize,
    pub(super) width: Width,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// So many bytes, in the fixed part.
    Fixed(usize),
    /// In the variable part, from where the value before it ends.
    Variable {
        /// Where the end of the variable-width value before it is written, if there is one.
        previous_end_at: Option<usize>,
    },
}

impl RowLayout {
    /// The places of a layout's features.
    pub fn new(layout: &Layout) -> Self {
        let mut at = HEADER_BYTES + layout.fields.len().div_ceil(8);
        let mut last_end_at = None;
        let mut slots = Vec::with_capacity(layout.fields.len());
        for (name, feature_type) in &layout.fields {
            let width = match fixed_width(*feature_type) {
                Some(bytes) => Width::Fixed(bytes),
                None => Width::Variable {
                    previous_end_at: last_end_at.replace(at),
                },
            };
            slots.push(Slot {
                name: name.clone(),
                feature_type: *feature_type,
                at,
                width,
            });
            at += match width {
                Width::Fixed(bytes) => bytes,
                Width::Variable { .. } => END_BYTES,
            };
        }
        Self {
            fingerprint: layout.fingerprint(),
            slots,
            variable_at: at,
            last_end_at,
        }
    }

    /// The fingerprint that rows of this layout carry.
    pub fn fingerprint(&self) -> u32 {
        self.fingerprint
    }

    /// How many features a row has.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether a row has no feature at all.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The position of the feature of that name and type.
    pub fn position(&self, name: &FeatureName, feature_type: FeatureType) -> Option<usize> {
        self.slots
            .iter()
            .position(|slot| slot.name == *name && slot.feature_type == feature_type)
    }
}

/// The size of an end offset and of a list's count.
pub(super) const END_BYTES: usize = 4;

fn fixed_width(feature_type: FeatureType) -> Option<usize> {
    match feature_type {
        FeatureType::Scalar(scalar) => scalar_width(scalar),
        FeatureType::List(_) => None,
    }
}

/// The bytes that a scalar takes; none when that depends on the value.
pub(super) fn scalar_width(scalar: ScalarType) -> Option<usize> {
    match scalar {
        ScalarType::Bool => Some(1),
        ScalarType::Int32 | ScalarType::Float32 => Some(4),
        ScalarType::Int64 | ScalarType::Float64 | ScalarType::Timestamp => Some(8),
        ScalarType::String | ScalarType::Bytes => None,
    }
}
