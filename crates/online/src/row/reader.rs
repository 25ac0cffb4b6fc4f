//! Reading rows of every layout that a view version has had.

use vintner_core::{FeatureField, RowTime};
use vintner_registry::model::ViewRevision;

use super::{
    RowLayout,
    decode::{CellSink, Place, Row, RowDecodeError, RowHeader},
};

/// Reads some features of a view version from its rows, whichever of its layouts they are written in.
#[derive(Debug, Clone)]
pub struct RowReader {
    known: Vec<KnownLayout>,
}

#[derive(Debug, Clone)]
struct KnownLayout {
    layout: RowLayout,
    /// Per feature that is read, its position in this layout.
    positions: Vec<Option<usize>>,
}

/// One row, to be read feature by feature.
#[derive(Clone, Copy, Debug)]
pub struct ReadRow<'a> {
    row: Row<'a>,
    positions: &'a [Option<usize>],
}

/// What a row says of one feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The row was written before the view had the feature.
    Absent,
    /// The value is null.
    Null,
    /// A value.
    Value,
}

impl RowReader {
    /// A reader of these features of the view version.
    pub fn new(revision: &ViewRevision, features: &[FeatureField]) -> Self {
        let mut known: Vec<KnownLayout> = Vec::new();
        for layout in revision.layouts.iter().rev().chain([&revision.layout()]) {
            let layout = RowLayout::new(layout);
            if known.iter().any(|other| other.layout == layout) {
                continue;
            }
            let positions = features
                .iter()
                .map(|feature| layout.position(&feature.name, feature.feature_type))
                .collect();
            known.push(KnownLayout { layout, positions });
        }
        Self { known }
    }

    /// The row in these bytes.
    ///
    /// # Errors
    /// [`RowDecodeError`]; [`RowDecodeError::UnknownLayout`] says that the registry has moved on.
    #[inline]
    pub fn read<'a>(&'a self, bytes: &'a [u8]) -> Result<ReadRow<'a>, RowDecodeError> {
        let header = RowHeader::parse(bytes)?;
        let mut matching = self
            .known
            .iter()
            .filter(|known| known.layout.fingerprint() == header.fingerprint);
        let known = matching
            .next()
            .ok_or(RowDecodeError::UnknownLayout(header.fingerprint))?;
        if matching.next().is_some() {
            return Err(RowDecodeError::AmbiguousLayout(header.fingerprint));
        }
        Ok(ReadRow {
            row: Row::with_header(header, &known.layout, bytes)?,
            positions: &known.positions,
        })
    }
}

impl<'a> ReadRow<'a> {
    /// When the row was true and when it became known.
    pub fn time(&self) -> RowTime {
        self.row.time()
    }

    /// Whether the row was written with the feature, by its index among those that the reader reads.
    pub fn has(&self, feature: usize) -> bool {
        matches!(self.positions.get(feature), Some(Some(_)))
    }

    /// What the row says of a feature, by its index among those that the reader reads. A value is given to the sink,
    /// which is of the feature's type.
    ///
    /// # Errors
    /// [`RowDecodeError`] when that feature is damaged.
    #[inline]
    pub fn append(
        &self,
        feature: usize,
        sink: &mut impl CellSink,
    ) -> Result<Field, RowDecodeError> {
        let Some(Some(position)) = self.positions.get(feature) else {
            return Ok(Field::Absent);
        };
        Ok(match self.row.append(*position, sink)? {
            true => Field::Value,
            false => Field::Null,
        })
    }

    /// A feature's value as it stands in the row, where it is of fixed width and not null. `place` is where the row before
    /// had it, and becomes where this one has it.
    #[inline]
    pub fn stored(&self, feature: usize, place: &mut Option<Place<'a>>) -> Option<&'a [u8]> {
        if let Some(value) = place.as_ref().and_then(|place| self.row.stored(place)) {
            return Some(value);
        }
        let position = (*self.positions.get(feature)?)?;
        *place = self.row.place(position);
        self.row.stored(place.as_ref()?)
    }
}
