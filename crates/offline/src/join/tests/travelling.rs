//! A join that has travelled as bytes gives the rows that it would have given at home.

use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
};
use datafusion_proto::physical_plan::{DefaultPhysicalProtoConverter, PhysicalExtensionCodec as _};
use prost::Message;
use vintner_proto::v1;

use super::*;
use crate::join::PitJoinCodec;

/// A process that has the object store, and nothing else.
fn abroad(objects: &Arc<InMemory>) -> Arc<TaskContext> {
    let context = SessionContext::new();
    let url = "memory://".parse().unwrap();
    context.register_object_store(&url, Arc::<InMemory>::clone(objects));
    context.task_ctx()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_join_joins_the_same_after_its_way(
        case in grid::join_case(),
        files in Files::any(),
        lint in any::<bool>(),
    ) {
        let objects = Arc::new(InMemory::new());
        let plan = plan_over(&objects, &case, files);
        let plan = Arc::new(match lint {
            true => plan.with_lint(),
            false => plan,
        });
        let bytes = physical_plan_to_bytes_with_extension_codec(
            Arc::<PitJoinExec>::clone(&plan),
            &PitJoinCodec,
        ).unwrap();
        let context = abroad(&objects);
        let back =
            physical_plan_from_bytes_with_extension_codec(&bytes, &context, &PitJoinCodec).unwrap();
        let back: &PitJoinExec = back.downcast_ref().unwrap();
        prop_assert_eq!(back.spec(), plan.spec());
        prop_assert_eq!(back.schema(), plan.schema());
        prop_assert_eq!(back.lints(), lint);
        for (found, sent) in back.tables().iter().zip(plan.tables()) {
            prop_assert_eq!(found.files(), sent.files());
            prop_assert_eq!(found.location(), sent.location());
        }
        prop_assert_eq!(run_plan(&case, back, context), oracle::join(&case));
    }
}

fn encoded(plan: PitJoinExec) -> Vec<u8> {
    let mut bytes = Vec::new();
    let converter = DefaultPhysicalProtoConverter {};
    PitJoinCodec
        .try_encode(Arc::new(plan), &mut bytes, &converter)
        .unwrap();
    bytes
}

fn decoded(bytes: &[u8], inputs: &[Arc<dyn ExecutionPlan>], context: &TaskContext) -> String {
    let converter = DefaultPhysicalProtoConverter {};
    match PitJoinCodec.try_decode(bytes, inputs, context, &converter) {
        Ok(plan) => format!("{} was read", plan.name()),
        Err(err) => err.strip_backtrace(),
    }
}

#[test]
fn bytes_that_are_no_join_are_refused_with_what_is_wrong() {
    let case = case(&[(Some(1), Some(5))], 10, &[(1, 1, Some(7))]);
    let objects = Arc::new(InMemory::new());
    let bytes = encoded(plan_over(&objects, &case, ONE));
    let (inputs, here) = ([entity_plan(&case, 10)], abroad(&objects));
    let changed = |change: &dyn Fn(&mut v1::PointInTimeJoin)| {
        let mut message = v1::PointInTimeJoin::decode(bytes.as_slice()).unwrap();
        change(&mut message);
        decoded(&message.encode_to_vec(), &inputs, &here)
    };
    insta::assert_snapshot!(decoded(&bytes, &inputs, &here), @"PitJoinExec was read");
    insta::assert_snapshot!(decoded(&bytes[..bytes.len() - 1], &inputs, &here), @"External error: the bytes are no point-in-time join: failed to decode Protobuf message: PointInTimeJoin.columns: buffer underflow");
    insta::assert_snapshot!(decoded(&bytes, &[], &here), @"External error: a point-in-time join has one input, the entity rows, and not 0");
    insta::assert_snapshot!(changed(&|join| join.format = 2), @"External error: the point-in-time join has format 2 and this version of Vintner reads format 1; run the same version everywhere");
    insta::assert_snapshot!(changed(&|join| join.views[0].knowledge = 0), @"External error: the point-in-time join is not valid: views[0].knowledge: must be set");
    insta::assert_snapshot!(changed(&|join| join.views[0].boundary = 9), @"External error: the point-in-time join is not valid: views[0].boundary: the number 9 is no boundary mode that this version knows");
    insta::assert_snapshot!(changed(&|join| join.views[0].ttl = Some(0)), @"External error: the point-in-time join is not valid: views[0].ttl: 0 microseconds is no duration; it must be at least 1 and at most 9223372036854775807");
    insta::assert_snapshot!(changed(&|join| join.views[0].files[0].last_event = None), @"External error: the point-in-time join is not valid: views[0].files[0].last_event: must be set");
    insta::assert_snapshot!(changed(&|join| join.views[0].location = "here".to_owned()), @"External error: `here` is no table's place: relative URL without a base");
    insta::assert_snapshot!(changed(&|join| join.columns[0].view = 1), @"Error during planning: the output column `view0__f` is of the view in place 1, counted from 0, but there are 1");
    let elsewhere = SessionContext::new().task_ctx();
    insta::assert_snapshot!(decoded(&bytes, &inputs, &elsewhere), @"External error: there is no object store for the table at memory:///view0/; register it with the session's `RuntimeEnv`");
}

#[test]
fn only_a_join_is_written() {
    let case = case(&[(Some(1), Some(5))], 10, &[]);
    let converter = DefaultPhysicalProtoConverter {};
    let err = PitJoinCodec.try_encode(entity_plan(&case, 1), &mut Vec::new(), &converter);
    insta::assert_snapshot!(err.unwrap_err().strip_backtrace(), @"This feature is not implemented: DataSourceExec is no point-in-time join");
}
