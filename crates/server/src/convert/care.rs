//! What keeps the stores true and clean.

use vintner_ops::api::{
    Checkup, DEFAULT_RATE, DeleteRequest, Deleted, Difference, Example, Health, KeysSeen, Repair,
    Sample, TeardownRequest, TeardownScope, VerifyRequest, ViewDeletion, ViewTeardown,
    ViewVerification,
};
use vintner_proto::{convert::ConvertError, v1};

use super::{
    Travels, chosen, from_each, missing, parse, parse_each, required, texts, to_each, wrong,
};

impl Travels for KeysSeen {
    type Message = v1::KeysSeen;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::KeysSeen {
            view: Some(self.view.into_message()?),
            keys: self.keys,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            view: required("view", message.view)?,
            keys: message.keys,
        })
    }
}

impl Travels for VerifyRequest {
    type Message = v1::VerifyRequest;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::VerifyRequest {
            views: texts(&self.views),
            sample_of_a_million: self.sample.of_a_million,
            repair: match self.repair {
                Repair::No => v1::Repair::No,
                Repair::Safe => v1::Repair::Safe,
                Repair::Force => v1::Repair::Force,
            }
            .into(),
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        let sample = match message.sample_of_a_million {
            0 => Sample::ALL,
            of_a_million @ 1..=1_000_000 => Sample { of_a_million },
            _ => return Err(wrong("is more than a million").within("sample_of_a_million")),
        };
        Ok(Self {
            views: parse_each("views", &message.views)?,
            sample,
            repair: match chosen("repair", message.repair)? {
                None | Some(v1::Repair::Unspecified | v1::Repair::No) => Repair::No,
                Some(v1::Repair::Safe) => Repair::Safe,
                Some(v1::Repair::Force) => Repair::Force,
            },
        })
    }
}

impl Travels for ViewVerification {
    type Message = v1::ViewVerification;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        let counts = self.differences.into_iter();
        let counts = counts.map(|(difference, count)| v1::DifferenceCount {
            difference: difference.word().to_owned(),
            count,
        });
        Ok(v1::ViewVerification {
            view: Some(self.view.into_message()?),
            table_version: self.table_version,
            loaded_version: self.loaded_version,
            keys: self.keys,
            same: self.same,
            expired: self.expired,
            settled: self.settled,
            recent: self.recent,
            differences: counts.collect(),
            not_loaded: self.not_loaded,
            repaired: self.repaired,
            held_back: self.held_back,
            examples: to_each(self.examples)?,
            micros: self.micros,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        let counts = message.differences.into_iter();
        let counts = counts.map(|counted| {
            let difference: Difference = parse("differences", &counted.difference)?;
            Ok((difference, counted.count))
        });
        Ok(Self {
            view: required("view", message.view)?,
            table_version: message.table_version,
            loaded_version: message.loaded_version,
            keys: message.keys,
            same: message.same,
            expired: message.expired,
            settled: message.settled,
            recent: message.recent,
            differences: counts.collect::<Result<_, ConvertError>>()?,
            not_loaded: message.not_loaded,
            repaired: message.repaired,
            held_back: message.held_back,
            examples: from_each("examples", message.examples)?,
            micros: message.micros,
        })
    }
}

impl Travels for Example {
    type Message = v1::DifferenceExample;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::DifferenceExample {
            difference: self.difference.word().to_owned(),
            entity: self.entity,
            explanation: self.explanation,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            difference: parse("difference", &message.difference)?,
            entity: message.entity,
            explanation: message.explanation,
        })
    }
}

/// One message of a comparison's stream: how far it has come, or the end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum VerifyStep {
    /// How far.
    Seen(KeysSeen),
    /// All views are compared.
    Done(Vec<ViewVerification>),
}

impl Travels for VerifyStep {
    type Message = v1::VerifyResponse;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        use v1::verify_response::Event;
        let event = match self {
            Self::Seen(seen) => Event::Progress(seen.into_message()?),
            Self::Done(views) => Event::Done(v1::VerifyDone {
                views: to_each(views)?,
            }),
        };
        Ok(v1::VerifyResponse { event: Some(event) })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        use v1::verify_response::Event;
        Ok(match message.event.ok_or_else(|| missing("event"))? {
            Event::Progress(seen) => Self::Seen(KeysSeen::from_message(seen)?),
            Event::Done(done) => Self::Done(from_each("views", done.views)?),
        })
    }
}

impl Travels for TeardownRequest {
    type Message = v1::TeardownRequest;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::TeardownRequest {
            target: self.target.to_string(),
            online_only: self.scope == TeardownScope::Online,
            rate: self.rate.get(),
            dry_run: self.dry_run,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        let rate = match message.rate {
            0 => DEFAULT_RATE,
            rate => rate,
        };
        Ok(Self {
            target: parse("target", &message.target)?,
            scope: match message.online_only {
                true => TeardownScope::Online,
                false => TeardownScope::Everything,
            },
            rate: rate.try_into().map_err(wrong)?,
            dry_run: message.dry_run,
        })
    }
}

impl Travels for ViewTeardown {
    type Message = v1::ViewTeardown;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::ViewTeardown {
            view: Some(self.view.into_message()?),
            online: self.online,
            online_rows: self.online_rows,
            files: self.files,
            bytes: self.bytes,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            view: required("view", message.view)?,
            online: message.online,
            online_rows: message.online_rows,
            files: message.files,
            bytes: message.bytes,
        })
    }
}

/// One message of a teardown's stream: how far it has come, or the end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TeardownStep {
    /// How far.
    Seen(KeysSeen),
    /// All is deleted.
    Done(Vec<ViewTeardown>),
}

impl Travels for TeardownStep {
    type Message = v1::TeardownResponse;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        use v1::teardown_response::Event;
        let event = match self {
            Self::Seen(seen) => Event::Progress(seen.into_message()?),
            Self::Done(views) => Event::Done(v1::TeardownDone {
                views: to_each(views)?,
            }),
        };
        Ok(v1::TeardownResponse { event: Some(event) })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        use v1::teardown_response::Event;
        Ok(match message.event.ok_or_else(|| missing("event"))? {
            Event::Progress(seen) => Self::Seen(KeysSeen::from_message(seen)?),
            Event::Done(done) => Self::Done(from_each("views", done.views)?),
        })
    }
}

impl Travels for DeleteRequest {
    type Message = v1::DeleteRequest;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::DeleteRequest {
            target: self.target.to_string(),
            entities: to_each(self.entities)?,
            dry_run: self.dry_run,
            author: self.author,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            target: parse("target", &message.target)?,
            entities: from_each("entities", message.entities)?,
            dry_run: message.dry_run,
            author: message.author,
        })
    }
}

impl Travels for Deleted {
    type Message = v1::DeleteResponse;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::DeleteResponse {
            views: to_each(self.views)?,
            retired: to_each(self.retired)?,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            views: from_each("views", message.views)?,
            retired: from_each("retired", message.retired)?,
        })
    }
}

impl Travels for ViewDeletion {
    type Message = v1::ViewDeletion;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::ViewDeletion {
            view: Some(self.view.into_message()?),
            entities: self.entities,
            found: self.found,
            rows: self.rows,
            online_rows: self.online_rows,
            table_version: self.table_version,
            files_removed: self.files_removed,
            files_added: self.files_added,
            bytes_added: self.bytes_added,
            datasets: texts(&self.datasets),
            micros: self.micros,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            view: required("view", message.view)?,
            entities: message.entities,
            found: message.found,
            rows: message.rows,
            online_rows: message.online_rows,
            table_version: message.table_version,
            files_removed: message.files_removed,
            files_added: message.files_added,
            bytes_added: message.bytes_added,
            datasets: parse_each("datasets", &message.datasets)?,
            micros: message.micros,
        })
    }
}

impl Travels for Checkup {
    type Message = v1::Checkup;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        let latencies = self.latencies.into_iter();
        let facts = self.facts.into_iter();
        Ok(v1::Checkup {
            part: self.part,
            place: self.place,
            health: match self.health {
                Health::Good => v1::Health::Good,
                Health::Warning => v1::Health::Warning,
                Health::Broken => v1::Health::Broken,
            }
            .into(),
            latencies: latencies
                .map(|(name, micros)| v1::Latency { name, micros })
                .collect(),
            facts: facts
                .map(|(name, value)| v1::Fact { name, value })
                .collect(),
            advice: self.advice,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        let latencies = message.latencies.into_iter();
        let facts = message.facts.into_iter();
        Ok(Self {
            part: message.part,
            place: message.place,
            health: match chosen("health", message.health)? {
                None | Some(v1::Health::Unspecified) => return Err(missing("health")),
                Some(v1::Health::Good) => Health::Good,
                Some(v1::Health::Warning) => Health::Warning,
                Some(v1::Health::Broken) => Health::Broken,
            },
            latencies: latencies.map(|told| (told.name, told.micros)).collect(),
            facts: facts.map(|told| (told.name, told.value)).collect(),
            advice: message.advice,
        })
    }
}
