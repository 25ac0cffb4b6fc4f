//! The point-in-time join as an operator of the batch engine. What it computes, and why that is right, is
//! [`vintner_join`]'s to say; here is what it costs: reading, threads, memory.
//!
//! Start at [`PitJoinExec`]. `chunk` joins as many entity rows at a time as fit the memory, `answer` reads one view for
//! them: keys and times of the parts of its table that can count, then the values of the rows that do. `codec` makes bytes of
//! the operator, for a plan that travels.
//!
//! * Holds always: entity rows keep their order, however many chunks they come in; a chunk's result does not depend
//!   on the others, so that a join of any size ends in the memory that it is given.
//! * Memory: what a chunk takes is reckoned before it is read on, reserved from the session's pool as it is taken,
//!   and a chunk for which the pool is too small is halved.
//! * Not here: which views and columns ([`crate::historical`]), which files a table has ([`crate::delta`]), what a part
//!   of a file can have ([`crate::feature_table`]).

mod answer;
mod chunk;
mod codec;
mod counts;
mod exec;

#[cfg(test)]
pub(crate) mod tests;

pub use codec::PitJoinCodec;
pub use counts::{JoinCounts, ViewCounts};
pub use exec::PitJoinExec;
pub(crate) use exec::external;
pub use vintner_join::LintCounts;
