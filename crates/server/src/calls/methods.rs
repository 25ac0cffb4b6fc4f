//! The methods that there are, and how long their calls took, by code. What is called and does not exist counts as one
//! method, so that callers cannot make names.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;
use vintner_core::meter::{Histogram, HistogramReading};

/// What Arrow Flight has; its descriptors are not among ours.
const FLIGHT: [&str; 10] = [
    "Handshake",
    "ListFlights",
    "GetFlightInfo",
    "PollFlightInfo",
    "GetSchema",
    "DoGet",
    "DoPut",
    "DoExchange",
    "DoAction",
    "ListActions",
];
const FLIGHT_SERVICE: &str = "arrow.flight.protocol.FlightService";

/// Every method by its path.
#[derive(Debug)]
pub(crate) struct Methods {
    by_path: HashMap<Box<str>, Arc<MethodMeter>>,
    other: Arc<MethodMeter>,
}

/// One method.
#[derive(Debug)]
pub(crate) struct MethodMeter {
    /// `package.Service/Method`.
    name: Box<str>,
    /// Its calls last as long as there is something to say.
    streams: bool,
    /// By code; made with the first call that ends so.
    times: [OnceLock<Box<Histogram>>; CODES.len()],
}

/// The codes that a call can end with, in the order of their numbers, and their words.
const CODES: [(Code, &str); 17] = [
    (Code::Ok, "OK"),
    (Code::Cancelled, "CANCELLED"),
    (Code::Unknown, "UNKNOWN"),
    (Code::InvalidArgument, "INVALID_ARGUMENT"),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
    (Code::NotFound, "NOT_FOUND"),
    (Code::AlreadyExists, "ALREADY_EXISTS"),
    (Code::PermissionDenied, "PERMISSION_DENIED"),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
    (Code::FailedPrecondition, "FAILED_PRECONDITION"),
    (Code::Aborted, "ABORTED"),
    (Code::OutOfRange, "OUT_OF_RANGE"),
    (Code::Unimplemented, "UNIMPLEMENTED"),
    (Code::Internal, "INTERNAL"),
    (Code::Unavailable, "UNAVAILABLE"),
    (Code::DataLoss, "DATA_LOSS"),
    (Code::Unauthenticated, "UNAUTHENTICATED"),
];

/// The code's word, as gRPC writes it.
pub(super) fn word(code: Code) -> &'static str {
    CODES[code as usize % CODES.len()].1
}

impl Methods {
    /// All that this service can be asked, by its own descriptors.
    pub(crate) fn known() -> Self {
        let mut by_path = HashMap::new();
        let mut add = |service: &str, method: &str, streams| {
            let name = format!("{service}/{method}");
            let path = format!("/{name}").into_boxed_str();
            by_path.insert(path, Arc::new(MethodMeter::new(&name, streams)));
        };
        for descriptors in [
            vintner_proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            // A test holds that they can be read.
            let files = FileDescriptorSet::decode(descriptors).unwrap_or_default();
            for file in files.file {
                for service in &file.service {
                    let full = format!("{}.{}", file.package(), service.name());
                    for method in &service.method {
                        let streams = method.server_streaming() || method.client_streaming();
                        add(&full, method.name(), streams);
                    }
                }
            }
        }
        for method in FLIGHT {
            add(FLIGHT_SERVICE, method, true);
        }
        Self {
            by_path,
            other: Arc::new(MethodMeter::new("other", false)),
        }
    }

    /// The method of a path.
    pub(super) fn of(&self, path: &str) -> &Arc<MethodMeter> {
        self.by_path.get(path).unwrap_or(&self.other)
    }

    /// Every method that was called, in the order of their names.
    pub(crate) fn called(&self) -> Vec<&MethodMeter> {
        let all = self.by_path.values().chain([&self.other]);
        let mut called: Vec<&MethodMeter> = all
            .map(AsRef::as_ref)
            .filter(|method| method.by_code().next().is_some())
            .collect();
        called.sort_by(|a, b| a.name.cmp(&b.name));
        called
    }
}

impl MethodMeter {
    fn new(name: &str, streams: bool) -> Self {
        Self {
            name: name.into(),
            streams,
            times: std::array::from_fn(|_| OnceLock::new()),
        }
    }

    /// `package.Service/Method`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn streams(&self) -> bool {
        self.streams
    }

    pub(super) fn observe(&self, code: Code, took: Duration) {
        let times = &self.times[code as usize % CODES.len()];
        times
            .get_or_init(|| Box::new(Histogram::new(Histogram::LATENCIES)))
            .observe_time(took);
    }

    /// The codes that its calls have ended with, and how long they took.
    pub(crate) fn by_code(&self) -> impl Iterator<Item = (&'static str, HistogramReading)> {
        let times = CODES.iter().zip(&self.times);
        times.filter_map(|((_, word), times)| Some((*word, times.get()?.read())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_has_its_methods_and_what_does_not_exist_is_one() {
        let methods = Methods::known();
        for (path, name, streams) in [
            (
                "/vintner.v1.OnlineService/GetOnlineFeatures",
                "vintner.v1.OnlineService/GetOnlineFeatures",
                false,
            ),
            (
                "/vintner.v1.OnlineService/StreamOnlineFeatures",
                "vintner.v1.OnlineService/StreamOnlineFeatures",
                true,
            ),
            (
                "/grpc.health.v1.Health/Check",
                "grpc.health.v1.Health/Check",
                false,
            ),
            (
                "/grpc.health.v1.Health/Watch",
                "grpc.health.v1.Health/Watch",
                true,
            ),
            (
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                true,
            ),
            (
                "/arrow.flight.protocol.FlightService/DoExchange",
                "arrow.flight.protocol.FlightService/DoExchange",
                true,
            ),
            ("/vintner.v1.OnlineService/Nothing", "other", false),
            ("/", "other", false),
        ] {
            let method = methods.of(path);
            assert_eq!((method.name(), method.streams()), (name, streams), "{path}");
        }
        assert!(methods.called().is_empty());
    }

    #[test]
    fn codes_stand_at_their_numbers() {
        for (index, (code, _)) in CODES.iter().enumerate() {
            assert_eq!(*code as usize, index);
        }
    }

    #[test]
    fn calls_are_counted_by_the_code_that_they_ended_with() {
        let methods = Methods::known();
        let method = methods.of("/vintner.v1.RegistryService/List");
        for code in [Code::Ok, Code::Ok, Code::Unavailable] {
            method.observe(code, Duration::from_millis(1));
        }
        let counts: Vec<_> = method
            .by_code()
            .map(|(code, times)| (code, times.count()))
            .collect();
        assert_eq!(counts, [("OK", 2), ("UNAVAILABLE", 1)]);
        assert_eq!(methods.called().len(), 1);
    }
}
