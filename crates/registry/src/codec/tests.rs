use proptest::prelude::*;
use vintner_core::{ByteSize, ScalarType, Value, ViewVersion};

use super::*;
use crate::fixture::{entity, project_of, revision, service, source};

/// A snapshot in which every field of every message is set, and every variant of every choice is there.
fn full() -> Snapshot {
    let about = About {
        description: "hourly, per airport".into(),
        owner: "data-platform".into(),
        tags: BTreeMap::from([("tier".into(), "gold".into()), ("pii".into(), "no".into())]),
    };
    let keys = "a: bool, b: bytes, c: int32, d: int64, e: string";
    let types =
        ScalarType::ALL.map(|scalar| format!("f_{scalar}: {scalar}, l_{scalar}: list<{scalar}>"));
    let mut wide = revision("wide@2", keys, &types.join(", "));
    for field in &mut wide.features {
        field.default = Some(a_value(field.feature_type));
        field.description = format!("a {}", field.feature_type);
    }
    wide.ttl = Some("6h".parse().unwrap());
    wide.lookback = Ttl::from_micros(1);
    wide.created_timestamp = Some("loaded".parse().unwrap());
    wide.layouts.insert(
        0,
        Layout {
            fields: vec![("old".parse().unwrap(), "int32".parse().unwrap())],
        },
    );
    wide.about = about.clone();

    let mut lookup = revision("lookup", "k: int64", "v: string");
    lookup.input = ViewInput::Source("events".parse().unwrap());
    lookup.refresh = Refresh::Static {
        source: "events".parse().unwrap(),
    };
    lookup.event_timestamp = None;
    lookup.online = false;
    let mut rows = revision("rows", "k: int64", "v: string");
    rows.refresh = Refresh::RowLocal {
        source: "events".parse().unwrap(),
    };
    rows.offline = false;

    let mut project = project_of(
        [
            revision("wide", "k: int64", "v: string"),
            wide,
            lookup,
            rows,
        ],
        [("model", "wide, wide@1:v, rows:v")],
    );
    project
        .versions_used
        .insert("gone".parse().unwrap(), ViewVersion(7));
    project.retired.insert(
        "gone@7".parse().unwrap(),
        vec![Layout {
            fields: vec![("v".parse().unwrap(), "list<float32>".parse().unwrap())],
        }],
    );
    let mut thing = entity();
    thing.about = about.clone();
    project.entities.insert(thing.name.clone(), thing);
    for (name, format) in [
        ("events", SourceFormat::Parquet),
        ("texts", SourceFormat::Csv),
        ("lines", SourceFormat::Json),
        ("table", SourceFormat::Delta),
    ] {
        let mut source = source(name);
        source.format = format;
        if format == SourceFormat::Delta {
            source.event_timestamp = None;
            source.created_timestamp = Some("loaded".parse().unwrap());
            source.is_static = true;
            source.about = about.clone();
        }
        project.sources.insert(source.name.clone(), source);
    }
    let mut tagged = service("tagged", "lookup");
    tagged.about = about;
    project.services.insert(tagged.name.clone(), tagged);
    Snapshot {
        version: RegistryVersion(12),
        created_at: "2013-01-01T06:00:00.000001Z".parse().unwrap(),
        author: "ann".into(),
        reason: "rollback to 3".into(),
        projects: BTreeMap::from([
            ("flights".parse().unwrap(), project),
            ("trains".parse().unwrap(), Project::default()),
        ]),
    }
}

fn a_value(feature_type: FeatureType) -> Value {
    let scalar = |scalar| match scalar {
        ScalarType::Bool => Value::Bool(true),
        ScalarType::Int32 => Value::Int32(i32::MIN),
        ScalarType::Int64 => Value::Int64(i64::MIN),
        ScalarType::Float32 => Value::Float32(-0.0),
        ScalarType::Float64 => Value::Float64(f64::NAN),
        ScalarType::String => Value::String("é".into()),
        ScalarType::Bytes => Value::Bytes(vec![0, 255]),
        ScalarType::Timestamp => Value::Timestamp(Timestamp::BEGINNING),
    };
    match feature_type {
        FeatureType::Scalar(kind) => scalar(kind),
        FeatureType::List(kind) => Value::List(kind, vec![Some(scalar(kind)), None]),
    }
}

#[test]
fn every_field_comes_back_as_it_went() {
    assert_eq!(decode(&encode(&full())), Ok(full()));
}

#[test]
fn the_file_that_the_first_version_wrote_can_be_read() {
    let bytes = include_bytes!("../../tests/fixtures/registry-v1.pb");
    assert_eq!(decode(bytes), Ok(full()));
}

#[test]
fn the_same_snapshot_gives_the_same_bytes() {
    let bytes = include_bytes!("../../tests/fixtures/registry-v1.pb");
    assert!(
        encode(&full()) == bytes,
        "a snapshot is written in another way; if that is meant, keep this fixture for reading and add one"
    );
}

#[test]
fn what_is_wrong_in_a_snapshot_is_named_with_its_place() {
    let told = |damage: fn(&mut v1::Snapshot)| {
        let mut message = v1::Snapshot::from(&full());
        damage(&mut message);
        decode(&message.encode_to_vec()).unwrap_err().to_string()
    };
    fn view(message: &mut v1::Snapshot) -> &mut v1::View {
        &mut message.projects[0].views[2]
    }
    insta::assert_snapshot!(decode(b"not a snapshot").unwrap_err(), @"the bytes are not a registry snapshot: failed to decode Protobuf message: invalid wire type value: 6");
    insta::assert_snapshot!(decode(&encode(&full())[..200]).unwrap_err(), @"the bytes are not a registry snapshot: failed to decode Protobuf message: Snapshot.projects: buffer underflow");
    insta::assert_snapshot!(decode(b"").unwrap_err(), @"the snapshot is not valid: format: must be set");
    insta::assert_snapshot!(told(|m| m.format = 2), @"the snapshot has format 2 and this version of Vintner reads up to format 1; use the version that wrote it, or a newer one");
    insta::assert_snapshot!(told(|m| m.version = 0), @"the snapshot is not valid: version: must be set");
    insta::assert_snapshot!(told(|m| m.version = u64::MAX), @"the snapshot is not valid: version: 18446744073709551615 is too great");
    insta::assert_snapshot!(told(|m| m.projects[0].name = "a__b".into()), @"the snapshot is not valid: projects[a__b].name: the project name `a__b` must not contain `__` nor begin or end with `_`, so that `view__feature` splits in one way only");
    insta::assert_snapshot!(told(|m| m.projects[1].name = "flights".into()), @"the snapshot is not valid: projects[flights]: is there twice");
    insta::assert_snapshot!(told(|m| m.projects[0].entities[0].join_keys.clear()), @"the snapshot is not valid: projects[flights].entities[thing].join_keys: there is no join key; declare at least one");
    insta::assert_snapshot!(told(|m| m.projects[0].sources[1].format = 77), @"the snapshot is not valid: projects[flights].sources[lines].format: the number 77 is no source format that this version knows");
    insta::assert_snapshot!(told(|m| m.projects[0].sources[1].columns[2].r#type = None), @"the snapshot is not valid: projects[flights].sources[lines].columns[2].type: must be set");
    insta::assert_snapshot!(told(|m| m.projects[0].services[0].features[1].version = Some(0)), @"the snapshot is not valid: projects[flights].services[model].features[1].version: a view version is a number from 1, not 0");
    insta::assert_snapshot!(told(|m| { m.projects[0].versions_used.insert("wide".into(), 1); }), @"the snapshot is not valid: projects[flights].versions_used[wide]: is less than a version that the view has");
    insta::assert_snapshot!(told(|m| { m.projects[0].versions_used.insert("1".into(), 1); }), @"the snapshot is not valid: projects[flights].versions_used[1]: the feature view name `1` may only have letters, digits and `_`, and must not start with a digit");
    insta::assert_snapshot!(told(|m| m.projects[0].retired[0].id = None), @"the snapshot is not valid: projects[flights].retired[0].id: must be set");
    insta::assert_snapshot!(told(|m| view(m).revisions.clear()), @"the snapshot is not valid: projects[flights].views[wide].revisions: must be set");
    insta::assert_snapshot!(told(|m| view(m).revisions[1].version = 0), @"the snapshot is not valid: projects[flights].views[wide].revisions[0].version: a view version is a number from 1, not 0");
    insta::assert_snapshot!(told(|m| view(m).revisions[1].version = 1), @"the snapshot is not valid: projects[flights].views[wide].revisions[1]: `wide@1` is there twice");
    insta::assert_snapshot!(told(|m| view(m).revisions[1].input = None), @"the snapshot is not valid: projects[flights].views[wide].revisions[2].input: must be set");
    insta::assert_snapshot!(told(|m| view(m).revisions[1].refresh = None), @"the snapshot is not valid: projects[flights].views[wide].revisions[2].refresh: must be set");
    insta::assert_snapshot!(told(|m| view(m).revisions[1].ttl = Some(0)), @"the snapshot is not valid: projects[flights].views[wide].revisions[2].ttl: 0 microseconds is no duration; it must be at least 1 and at most 9223372036854775807");
    insta::assert_snapshot!(told(|m| view(m).revisions[1].layouts.reverse()), @"the snapshot is not valid: projects[flights].views[wide].revisions[2].layouts: the last is not the layout of the features");
    insta::assert_snapshot!(told(|m| view(m).revisions[1].features[3].default = Some((&Value::Bool(true)).into())), @"the snapshot is not valid: projects[flights].views[wide].revisions[2].features[3].default: a value of type bool where list<int32> is wanted");
    insta::assert_snapshot!(told(|m| { let twice = view(m).revisions[1].features[0].clone(); view(m).revisions[1].features.push(twice); }), @"the snapshot is not valid: projects[flights].views[wide].revisions[2].features: `f_bool` is there twice");
    insta::assert_snapshot!(told(|m| { let twice = view(m).revisions[1].lineage[0].clone(); view(m).revisions[1].lineage.push(twice); }), @"the snapshot is not valid: projects[flights].views[wide].revisions[2].lineage[f_bool]: is there twice");
}

/// Snapshots with anything in them that a snapshot can have, from few names.
fn some_snapshot() -> impl Strategy<Value = Snapshot> {
    let about = (
        "[a-c]{0,2}",
        "[a-c]{0,1}",
        prop::collection::btree_map("[a-c]{0,1}", "[a-cé]{0,2}", 0..3),
    )
        .prop_map(|(description, owner, tags)| About {
            description,
            owner,
            tags,
        });
    let feature_type = (
        prop::sample::select(ScalarType::ALL.to_vec()),
        any::<bool>(),
    )
        .prop_map(|(scalar, list)| {
            if list {
                FeatureType::List(scalar)
            } else {
                FeatureType::Scalar(scalar)
            }
        });
    let field = (
        prop::sample::select(vec!["a", "b", "c"]),
        feature_type,
        any::<bool>(),
    );
    let rest = (
        prop::option::of(1u64..3),
        prop::option::of(1u64..3),
        prop::option::of(Just("at")),
        prop::option::of(Just("loaded")),
        0usize..3,
        any::<(bool, bool, bool)>(),
        prop::option::of(1u64..3),
        "[a-c\n]{0,4}",
        about.clone(),
    );
    let view = (
        prop::sample::select(vec!["v@1", "v@2", "v@4", "w@1", "w@4294967295"]),
        prop::sample::select(vec!["k: int64", "j: bool, k: string"]),
        prop::collection::vec(field, 0..4),
        rest,
    );
    let view = view.prop_map(|(id, keys, fields, rest)| {
        let mut seen = std::collections::BTreeSet::new();
        let fields: Vec<_> = fields.into_iter().filter(|f| seen.insert(f.0)).collect();
        let typed: Vec<_> = fields.iter().map(|f| format!("{}: {}", f.0, f.1)).collect();
        let mut view = revision(id, keys, &typed.join(", "));
        for (field, (_, feature_type, default)) in view.features.iter_mut().zip(fields) {
            field.default = default.then(|| a_value(feature_type));
        }
        let (
            ttl,
            lookback,
            event,
            created,
            refresh,
            (offline, online, query),
            near_cache,
            text,
            about,
        ) = rest;
        let source = || "events".parse().unwrap();
        view.ttl = ttl.and_then(Ttl::from_micros);
        view.lookback = lookback.and_then(Ttl::from_micros);
        view.event_timestamp = event.map(|name| name.parse().unwrap());
        view.created_timestamp = created.map(|name| name.parse().unwrap());
        view.refresh = match refresh {
            0 => Refresh::Windowed,
            1 => Refresh::Static { source: source() },
            _ => Refresh::RowLocal { source: source() },
        };
        view.input = if query {
            ViewInput::Query(text.clone())
        } else {
            ViewInput::Source(source())
        };
        (view.offline, view.online) = (offline, online);
        view.near_cache = near_cache.and_then(ByteSize::new);
        (view.relation, view.refresh_reason, view.about) = (text.clone(), text, about);
        view
    });
    let project = (prop::collection::vec(view, 0..4), any::<bool>(), about).prop_map(
        |(views, more, about)| {
            let mut project = project_of(views, [("s", "v:a, w@4")]);
            if more {
                let mut thing = entity();
                thing.about = about;
                project.entities.insert(thing.name.clone(), thing);
                project
                    .sources
                    .insert("events".parse().unwrap(), source("events"));
                project.retired.insert("z@3".parse().unwrap(), vec![]);
            }
            project
        },
    );
    let names = prop::sample::select(vec!["p", "q"]).prop_map(|name| name.parse().unwrap());
    (
        prop::collection::btree_map(names, project, 0..3),
        prop_oneof![Just(1), Just(GREATEST_VERSION)],
        prop_oneof![
            Just(Timestamp::MIN),
            Just(Timestamp::MAX),
            Just(Timestamp::from_micros(0))
        ],
        "[a-cé]{0,3}",
    )
        .prop_map(|(projects, version, created_at, author)| Snapshot {
            version: RegistryVersion(version),
            created_at,
            reason: author.clone(),
            author,
            projects,
        })
}

proptest! {
    #[test]
    fn a_snapshot_comes_back_as_it_went(snapshot in some_snapshot()) {
        let bytes = encode(&snapshot);
        let back = decode(&bytes);
        prop_assert_eq!(back.as_ref(), Ok(&snapshot));
        prop_assert_eq!(encode(&back.unwrap()), bytes);
    }

    #[test]
    fn no_bytes_make_decoding_panic(snapshot in some_snapshot(), at in any::<prop::sample::Index>(), with in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let mut bytes = encode(&snapshot);
        let index = at.index(bytes.len());
        bytes[index] = with;
        bytes.truncate(cut.index(bytes.len()) + 1);
        if let Ok(read) = decode(&bytes) {
            prop_assert_eq!(decode(&encode(&read)), Ok(read), "what is read can be written");
        }
    }
}
