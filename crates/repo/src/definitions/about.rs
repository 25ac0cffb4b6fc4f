//! What every object may say of itself, for people.

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::{DESCRIPTION, OWNER, TAGS};
use crate::decode::{Object, Reader};

/// What an object is, and who answers for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct About {
    /// What it is, for people.
    #[schemars(default)]
    pub description: String,
    /// Who answers for it.
    #[schemars(default)]
    pub owner: String,
    /// Anything else that people or tools sort by.
    #[schemars(default)]
    pub tags: BTreeMap<String, String>,
}

/// Reads what an object says of itself; what cannot be read is reported and left out.
pub(super) fn read(reader: &mut Reader<'_>, object: &Object<'_>) -> About {
    let mut text = |field: &str| {
        let text = object.get(field).and_then(|given| reader.text(given));
        text.unwrap_or_default().trim().to_owned()
    };
    About {
        description: text(DESCRIPTION.name),
        owner: text(OWNER.name),
        tags: object
            .get(TAGS.name)
            .and_then(|given| reader.mapping(given, "gold"))
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(_, key, value)| Some((key.to_owned(), reader.text(value)?.to_owned())))
            .collect(),
    }
}
