//! Entities.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use vintner_core::{EntityName, JoinKey, KeyType};

use super::{About, DESCRIPTION, KIND, OWNER, TAGS, about};
use crate::{
    code,
    decode::{Field, Object, Reader, required},
    schema,
};

/// A thing that features describe, such as an airport, and the columns that tell one from another.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename = "entity", deny_unknown_fields)]
pub struct EntityDef {
    /// Its name.
    #[schemars(with = "schema::ObjectName")]
    pub name: EntityName,
    /// The columns that identify one entity, and their types, in the order of the file. One or several.
    #[schemars(
        with = "BTreeMap<schema::ColumnName, schema::KeyTypeName>",
        extend("minProperties" = 1)
    )]
    pub join_keys: Vec<JoinKey>,
    /// For people.
    #[schemars(flatten)]
    pub about: About,
}

pub(super) const FIELDS: &[Field] = &[
    KIND,
    required("name", "airport"),
    required("join_keys", "{airport_id: int64}"),
    DESCRIPTION,
    OWNER,
    TAGS,
];

/// Reads an entity; what cannot be read is reported and left out.
pub(crate) fn read(reader: &mut Reader<'_>, object: &Object<'_>, name: EntityName) -> EntityDef {
    let types: Vec<String> = KeyType::ALL.iter().map(KeyType::to_string).collect();
    let types: Vec<&str> = types.iter().map(String::as_str).collect();
    let join_keys = object
        .get("join_keys")
        .and_then(|given| reader.mapping(given, "int64"))
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(key, text, value)| {
            let name = reader.name_of(text, key.span);
            let key_type = reader.one_of(value, code::BAD_TYPE, &types);
            Some(JoinKey {
                name: name?,
                key_type: key_type?,
            })
        })
        .collect();
    let about = about::read(reader, object);
    EntityDef {
        name,
        join_keys,
        about,
    }
}
