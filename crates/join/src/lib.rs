//! The point-in-time join: every entity row gets, of each view, the feature row that was visible at its moment.
//!
//! Start at [`JoinSpec`], the description, and follow a view's rows through the four steps:
//!
//! 1. The entity rows are indexed ([`EntityIndex`]): grouped by key, each group's times sorted and distinct. A
//!    distinct time of a key is a *slot*. Views with the same join keys share an index.
//! 2. Keys and times of the feature rows are streamed once, in any order, parts of the table apart ([`BestRows`]). A
//!    row's slot is the first one of its key at or after the moment from which the row counts; a row whose lifetime
//!    is over by then is dropped. Each slot keeps the time and the address of its greatest row.
//! 3. Each group is walked forwards, carrying the greatest row so far; where its lifetime is over, there is nothing.
//!    The rows that are seen somewhere are the [`Winners`].
//! 4. Only the winners' values are read ([`Values`]), and every entity row takes those of its slot
//!    ([`output_batch`]). Rows of equal times that compete for a winner are told apart by their values before
//!    ([`TiedRows`]).
//!
//! # Why carrying one row is enough
//!
//! A row counts for the moments of its lifetime `[from, until]`, and [`VisibilityRule::lifetime`] alone says which
//! these are. The proof needs one fact of it: **of two rows of one view, the one with the greater row time has an
//! `until` that is not earlier.** That holds because `until` is the event time plus the view's one ttl (or the end of
//! time), both boundaries and both kinds of knowledge leave it alone, saturating addition is monotone, and a greater
//! row time has an event time that is not earlier.
//!
//! Take an entity time `t` of some key, and let `m` be the greatest of the rows that are kept in the slots up to `t`.
//!
//! * `m` has begun: its slot's time is at or after its `from` and at or before `t`.
//! * No row that was not kept can be visible at `t` and greater than `m`. If it was dropped, its lifetime was over
//!   at its slot, so it is over at `t`. If it lost its slot, a greater row was kept there, and `m` is not less than
//!   that one. If its slot is after `t` or it has none, then `t` is before its `from`: the slot is the *first*
//!   entity time at or after `from`.
//! * If `m` is visible at `t`, it is therefore the answer. If it is not, its `until` is before `t`, and by the fact
//!   above so is that of every row that is less than `m`: nothing is visible.
//!
//! With [`Knowledge::Available`] a row of an earlier event may come to count later than a row of a later event, so a
//! later slot may hold a lesser row than the one that is carried. Taking the maximum leaves the carried one in place,
//! which is right: it was known already and is about a later moment. Rows with equal row times have equal
//! lifetimes, so they meet in one slot, and only there is a tie to be decided.
//!
//! # Rows that are too old
//!
//! [`LintCounts`] counts entity rows that see nothing only since a ttl has run out. For that, rows are offered under the
//! rule *without* its ttl ([`VisibilityRule::without_ttl`]) and resolved under the whole rule, and the winners are the
//! same: the row that is carried is the greatest that has begun. If it is too old, so is every lesser one, by the
//! fact above; and a row that the ttl would have dropped at its slot is too old there, so it takes the place of none
//! that is not.
//!
//! * Holds always: the result depends on the rows alone, never on their order, the parts they come in, or threads.
//! * Units: times in microseconds UTC, sizes in bytes.
//! * Memory: grows with the entity rows, not with the history: 24 bytes per slot and 4 per key, for each part that is streamed at once,
//!   then the values of the winners.
//! * Not here: I/O, the batch engine, threads. Builds without DataFusion, so that its tests and mutants run fast.
//!
//! [`Knowledge::Available`]: vintner_core::Knowledge::Available
//! [`VisibilityRule::lifetime`]: vintner_core::VisibilityRule::lifetime
//! [`VisibilityRule::without_ttl`]: vintner_core::VisibilityRule::without_ttl

mod best_rows;
mod entity_columns;
mod entity_index;
mod entity_rows;
mod error;
mod feature_rows;
mod key_lookup;
mod key_values;
mod lint;
mod output;
mod spec;
mod tied_rows;
mod ties;
mod values;
mod winners;

#[cfg(test)]
mod tests;

pub use best_rows::{Address, BestRows};
pub use entity_columns::{EntityValueError, key_column, key_type_fits, time_type_fits, times};
pub use entity_index::EntityIndex;
pub use entity_rows::{EntityColumns, EntityRows, EntityRowsBuilder};
pub use error::{JoinError, Result};
pub use feature_rows::FeatureRows;
pub use key_values::KeyValues;
pub use lint::LintCounts;
pub use output::{OutputFeature, ViewAnswer, output_batch};
pub use spec::{JoinSpec, OutputColumn, SpecError, ViewInput};
pub use tied_rows::TiedRows;
pub use ties::{RowComparator, TieBreak};
pub use values::Values;
pub use winners::{UnitWinners, UnorderedWinners, Winners};
