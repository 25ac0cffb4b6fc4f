//! The JSON Schema of the repo's files, for editors; generated from the types of [`crate::definitions`] and
//! [`crate::deployment`].
//!
//! The types here stand for those of `vintner_core`, which know nothing of schemas.

use std::borrow::Cow;

use schemars::{
    JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema as schema,
};
use serde_json::{Value, json};
use vintner_core::{FeatureType, KeyType, ScalarType, name::MAX_LENGTH};

use crate::{
    definitions::{EntityDef, FeatureServiceDef, FeatureViewDef, Kind, SourceDef},
    deployment::Deployment,
};

/// The schema of one document: a deployment or a definition. Draft 7, which editors know best.
pub fn json_schema() -> Value {
    let mut generator = SchemaSettings::draft07().into_generator();
    let deployment = generator.subschema_for::<Deployment>();
    let kinds = Kind::ALL.map(|kind| match kind {
        Kind::Entity => generator.subschema_for::<EntityDef>(),
        Kind::Source => generator.subschema_for::<SourceDef>(),
        Kind::FeatureView => generator.subschema_for::<FeatureViewDef>(),
        Kind::FeatureService => generator.subschema_for::<FeatureServiceDef>(),
    });
    let mut definitions = generator.take_definitions(true);
    for kind in Kind::ALL {
        if let Some(definition) = definitions.get_mut(kind.name()) {
            add_kind(definition, kind);
        }
    }
    let any_of: Vec<Schema> = std::iter::once(deployment).chain(kinds).collect();
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Vintner feature repo",
        "description": "One document of a feature repo: the deployment (vintner.yaml), or an object with a kind.",
        "oneOf": any_of,
        "definitions": definitions,
    })
}

/// An object's `kind` is the kind of its type, so it is no field of the type.
fn add_kind(definition: &mut Value, kind: Kind) {
    // Flattening leaves a keyword that draft 7 does not have.
    if let Some(object) = definition.as_object_mut() {
        object.remove("unevaluatedProperties");
        object.insert("additionalProperties".to_owned(), json!(false));
    }
    let what = json!({"description": "What kind of object this is.", "const": kind.name()});
    if let Some(properties) = definition["properties"].as_object_mut() {
        properties.shift_insert(0, "kind".to_owned(), what);
    }
    if let Some(required) = definition["required"].as_array_mut() {
        required.insert(0, json!("kind"));
    }
}

/// Makes a type that stands for a text of `vintner_core`.
macro_rules! texts {
    ($($(#[doc = $doc:literal])* $name:ident = $schema:expr;)*) => {$(
        $(#[doc = $doc])*
        pub(crate) enum $name {}

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}

/// Letters, digits and single `_` inside.
const OBJECT_NAME: &str = "^[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*$";

texts! {
    /// The name of an object.
    ObjectName = schema!({"type": "string", "pattern": OBJECT_NAME, "maxLength": MAX_LENGTH});
    /// The name of a project, in which variables expand.
    ProjectName = schema!({"type": "string", "minLength": 1});
    /// The name of a column or a feature.
    ColumnName = schema!({"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "maxLength": MAX_LENGTH});
    /// The type of a join key.
    KeyTypeName = schema!({"enum": KeyType::ALL.map(|key_type| key_type.to_string())});
    /// A duration.
    Duration = schema!({
        "type": "string",
        "pattern": "^\\s*([0-9]+\\s*[A-Za-zµ]+\\s*)+$",
        "examples": ["6h", "7d", "1h 30m"],
    });
    /// A size in bytes.
    Size = schema!({
        "type": ["string", "integer"],
        "pattern": "^\\s*[0-9]+(\\.[0-9]+)?\\s*([KkMmGgTtPpEe][Ii]?)?[Bb]?\\s*$",
        "minimum": 1,
        "examples": ["64MiB", "1GiB"],
    });
    /// One feature or all features of a view.
    FeatureReference = schema!({
        "type": "string",
        "pattern": "^[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*(@[0-9]+)?(:[A-Za-z_][A-Za-z0-9_]*)?$",
        "examples": ["airport_weather", "carrier_delays:mean_delay"],
    });
    /// One entry of a view's contract.
    Feature = schema!({
        "type": "object",
        "properties": {
            "type": {"description": "Its type.", "enum": feature_types()},
            "description": {"description": "What it is, for people.", "type": "string", "default": ""},
            "default": {
                "description": "What takes the place of a null or missing value; of the feature's type.",
                "type": ["boolean", "number", "string", "array"],
            },
        },
        "required": ["type"],
        "additionalProperties": false,
    });
    /// A source or a query.
    ViewInput = schema!({
        "type": "object",
        "properties": {
            "source": {
                "description": "The source whose columns the view takes, all of them. Not together with a query.",
                "type": "string",
                "pattern": OBJECT_NAME,
                "maxLength": MAX_LENGTH,
            },
            "query": {
                "description": "SQL over sources. Not together with a source.",
                "type": "string",
                "minLength": 1,
            },
        },
        "oneOf": [{"required": ["source"]}, {"required": ["query"]}],
    });
    /// An online store.
    OnlineStore = schema!({
        "oneOf": [
            {
                "type": "object",
                "properties": {
                    "type": {"const": "embedded"},
                    "path": {"description": "Its folder.", "type": "string", "minLength": 1},
                },
                "required": ["type", "path"],
                "additionalProperties": false,
            },
            {
                "type": "object",
                "properties": {
                    "type": {"const": "redis"},
                    "url": {
                        "description": "One server: redis://, or rediss:// for TLS. Put a password in ${VAR}.",
                        "type": "string",
                        "minLength": 1,
                    },
                    "cluster": {
                        "description": "Some nodes of a Redis Cluster, which are asked for the others. All have the same user, password and scheme.",
                        "type": "array",
                        "items": {"type": "string", "minLength": 1},
                        "minItems": 1,
                    },
                    "sentinel": {
                        "description": "The sentinels that know which server is the master.",
                        "type": "object",
                        "properties": {
                            "master": {"description": "What the sentinels call the master.", "type": "string", "minLength": 1},
                            "nodes": {
                                "description": "The sentinels: host:port; the port is 26379 by default.",
                                "type": "array",
                                "items": {"type": "string", "minLength": 1},
                                "minItems": 1,
                            },
                            "user": {"description": "The user at the master.", "type": "string", "minLength": 1},
                            "password": {"description": "The password at the master. Put it in ${VAR}.", "type": "string", "minLength": 1},
                            "sentinel_user": {"description": "The user at the sentinels.", "type": "string", "minLength": 1},
                            "sentinel_password": {"description": "The password at the sentinels. Put it in ${VAR}.", "type": "string", "minLength": 1},
                        },
                        "required": ["master", "nodes"],
                        "additionalProperties": false,
                    },
                    "tls": {
                        "description": "PEM files for TLS, relative to this file: with rediss://, or with sentinel, where it asks for TLS.",
                        "type": "object",
                        "properties": {
                            "ca": {"description": "Who may vouch for the servers; by default whom the system trusts.", "type": "string", "minLength": 1},
                            "cert": {"description": "The certificate that is shown to the servers.", "type": "string", "minLength": 1},
                            "key": {"description": "The key of that certificate.", "type": "string", "minLength": 1},
                        },
                        "dependencies": {"cert": ["key"], "key": ["cert"]},
                        "additionalProperties": false,
                    },
                },
                "required": ["type"],
                "oneOf": [{"required": ["url"]}, {"required": ["cluster"]}, {"required": ["sentinel"]}],
                "additionalProperties": false,
            },
        ],
    });
}

fn feature_types() -> Vec<String> {
    let scalars = ScalarType::ALL.map(FeatureType::Scalar);
    let lists = ScalarType::ALL.map(FeatureType::List);
    scalars
        .iter()
        .chain(&lists)
        .map(FeatureType::to_string)
        .collect()
}
