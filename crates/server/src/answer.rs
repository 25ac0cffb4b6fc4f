//! What every handler does besides its one call: read the request, write the answer.

use tonic::{Response, Status};
use vintner_ops::OpsError;
use vintner_proto::convert::ConvertError;

use crate::{convert::Travels, status};

/// How many versions or runs are listed when the request does not say.
pub(crate) const DEFAULT_LIMIT: u64 = 100;

/// The request, or why it cannot be read.
pub(crate) fn read<T>(request: Result<T, ConvertError>) -> Result<T, Status> {
    request.map_err(|error| status::unreadable(&error))
}

/// The answer's message.
pub(crate) fn write<T: Travels>(answer: Result<T, OpsError>) -> Result<T::Message, Status> {
    let answer = answer.map_err(|error| status::from_error(&error))?;
    answer
        .into_message()
        .map_err(|error| status::unwritable(&error))
}

/// The answer's messages.
pub(crate) fn write_each<T: Travels>(
    answer: Result<Vec<T>, OpsError>,
) -> Result<Vec<T::Message>, Status> {
    let answer = answer.map_err(|error| status::from_error(&error))?;
    crate::convert::to_each(answer).map_err(|error| status::unwritable(&error))
}

/// The answer as the response that is just it.
pub(crate) fn respond<T: Travels>(
    answer: Result<T, OpsError>,
) -> Result<Response<T::Message>, Status> {
    write(answer).map(Response::new)
}

/// The most entries to list.
pub(crate) fn limit(requested: Option<u64>) -> usize {
    usize::try_from(requested.unwrap_or(DEFAULT_LIMIT)).unwrap_or(usize::MAX)
}
