//! Between what [`vintner_ops`] speaks and the messages of `vintner.v1`, both ways. Server and client share it, so that
//! what one writes the other reads.
//!
//! [`Travels`] is the one door. [`values`] has the columns, the other modules a service each.
//!
//! * Holds always: what goes out and comes back is equal. A message from outside is checked here, once, and its
//!   error names the field by its path.
//! * Not here: limits on sizes ([`crate::online_service`]), status codes ([`crate::status`]).

mod care;
mod datasets;
mod maintenance;
mod materialization;
mod online;
mod push;
mod registry;
mod values;

#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use vintner_core::{Timestamp, ViewId};
use vintner_proto::{
    convert::{ConvertError, ConvertProblem, each},
    v1,
};

pub(crate) use care::{TeardownStep, VerifyStep};
pub(crate) use materialization::Step;
pub(crate) use values::row_count;

/// A plain value that travels as a message.
pub(crate) trait Travels: Sized {
    /// The message.
    type Message;

    /// The message of a value.
    ///
    /// # Errors
    /// [`ConvertError`] when the value contradicts itself, as a column with values of two types does.
    fn into_message(self) -> Result<Self::Message, ConvertError>;

    /// The value of a message.
    ///
    /// # Errors
    /// [`ConvertError`] when a field is missing or means nothing.
    fn from_message(message: Self::Message) -> Result<Self, ConvertError>;
}

/// The messages of a list.
pub(crate) fn to_each<T: Travels>(values: Vec<T>) -> Result<Vec<T::Message>, ConvertError> {
    values.into_iter().map(T::into_message).collect()
}

/// The values of a list of messages.
pub(crate) fn from_each<T: Travels>(
    field: &str,
    messages: Vec<T::Message>,
) -> Result<Vec<T>, ConvertError> {
    each(messages, field, T::from_message)
}

/// The value of a message that must be there.
pub(crate) fn required<T: Travels>(
    field: &str,
    message: Option<T::Message>,
) -> Result<T, ConvertError> {
    message
        .ok_or_else(|| ConvertProblem::Missing.into())
        .and_then(T::from_message)
        .map_err(|error| error.within(field))
}

/// The value of a message that may be there.
pub(crate) fn optional<T: Travels>(
    field: &str,
    message: Option<T::Message>,
) -> Result<Option<T>, ConvertError> {
    message
        .map(T::from_message)
        .transpose()
        .map_err(|error| error.within(field))
}

/// Something wrong that no other problem says.
pub(crate) fn wrong(problem: impl fmt::Display) -> ConvertError {
    ConvertProblem::Other(problem.to_string()).into()
}

/// A field's text that must be a name, a reference, or the like.
pub(crate) fn parse<T>(field: impl fmt::Display, text: &str) -> Result<T, ConvertError>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    text.parse().map_err(|problem| wrong(problem).within(field))
}

/// Names as they travel.
pub(crate) fn texts<T: fmt::Display>(names: &[T]) -> Vec<String> {
    names.iter().map(T::to_string).collect()
}

/// Names as they came.
pub(crate) fn parse_each<T>(field: &str, texts: &[String]) -> Result<Vec<T>, ConvertError>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    each(texts, field, |text| text.parse().map_err(wrong))
}

/// The value of an enumeration's field; none when it is not set.
pub(crate) fn chosen<E: TryFrom<i32>>(
    field: &'static str,
    number: i32,
) -> Result<Option<E>, ConvertError> {
    match number {
        0 => Ok(None),
        _ => E::try_from(number).map(Some).map_err(|_| {
            let what = field;
            ConvertError::at(field, ConvertProblem::Enum { what, number })
        }),
    }
}

/// A field that must be set is not.
pub(crate) fn missing(field: &str) -> ConvertError {
    ConvertError::at(field, ConvertProblem::Missing)
}

/// An instant as it came.
pub(crate) fn instant(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

impl Travels for ViewId {
    type Message = v1::ViewId;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::ViewId::from(&self))
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Self::try_from(message)
    }
}
