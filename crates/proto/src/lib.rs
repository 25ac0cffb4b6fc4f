//! The messages of Vintner: what the service speaks and what the registry stores, generated from `proto/vintner/v1`.
//!
//! [`v1`] is generated; [`convert`] is between its messages and the types of `vintner-core`.
//!
//! * Holds always: a core type becomes a message without fail; a message becomes a core type only when everything in
//!   it is valid, and the error says where it is not.
//! * Not here: the registry's model (`vintner-registry` converts it), anything that serves or calls.

pub mod convert;

/// The generated messages and services of `vintner.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::large_futures,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("vintner.v1");
}

/// The encoded `google.protobuf.FileDescriptorSet` of every file in `proto/vintner/v1` and what they import: what
/// gRPC reflection serves.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/vintner.v1.descriptors.bin"));

#[cfg(test)]
mod tests {
    use prost::Message;

    #[test]
    fn the_descriptors_name_every_file() {
        let set = prost_types::FileDescriptorSet::decode(super::FILE_DESCRIPTOR_SET).unwrap();
        let files: Vec<_> = set
            .file
            .iter()
            .map(prost_types::FileDescriptorProto::name)
            .collect();
        for file in ["vintner/v1/types.proto", "vintner/v1/registry.proto"] {
            assert!(files.contains(&file), "{file} is not among {files:?}");
        }
    }
}
