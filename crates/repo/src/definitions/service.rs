//! Feature services.

use schemars::JsonSchema;
use vintner_core::{FeatureRef, FeatureRefError, ServiceName};

use super::{About, DESCRIPTION, KIND, OWNER, TAGS, about};
use crate::{
    code,
    decode::{Field, Given, Object, Reader, required},
    diagnostic::Diagnostic,
    schema,
};

/// A named, ordered list of features: what a model is trained on and served with.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename = "feature_service", deny_unknown_fields)]
pub struct FeatureServiceDef {
    /// Its name.
    #[schemars(with = "schema::ObjectName")]
    pub name: ServiceName,
    /// Its features in the order in which both paths give them: `view` for all of a view, or `view:feature`.
    #[schemars(with = "Vec<schema::FeatureReference>", length(min = 1))]
    pub features: Vec<FeatureRef>,
    /// For people.
    #[schemars(flatten)]
    pub about: About,
}

pub(super) const FIELDS: &[Field] = &[
    KIND,
    required("name", "delay_model"),
    required(
        "features",
        "[airport_weather, \"carrier_delays:mean_delay\"]",
    ),
    DESCRIPTION,
    OWNER,
    TAGS,
];

/// Reads a feature service; what cannot be read is reported and left out.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    object: &Object<'_>,
    name: ServiceName,
) -> FeatureServiceDef {
    let features = object
        .get("features")
        .and_then(|given| reader.list(given, "features", "airport_weather:temp"))
        .unwrap_or_default()
        .into_iter()
        .filter_map(|given| reference(reader, given))
        .collect();
    let about = about::read(reader, object);
    FeatureServiceDef {
        name,
        features,
        about,
    }
}

fn reference(reader: &mut Reader<'_>, given: Given<'_>) -> Option<FeatureRef> {
    // In a list without quotes, `- view: feature` is a mapping.
    if let Some([(view, feature)]) = given.node.entries()
        && let (Some(view), Some(feature)) = (view.text(), feature.text())
    {
        let written = Diagnostic::error(
            code::BAD_REFERENCE,
            reader.place(given.node.span),
            format!("`{view}: {feature}` is a mapping, not the name of a feature"),
        )
        .label("a mapping")
        .help(format!("write it without the space: \"{view}:{feature}\""));
        reader.report(written);
        return None;
    }
    let text = reader.text(given)?;
    text.parse()
        .map_err(|error: FeatureRefError| {
            let place = reader.place(given.node.span);
            reader.report(
                Diagnostic::error(code::BAD_REFERENCE, place, error.to_string())
                    .label("names no feature")
                    .help("write `view:feature`, or `view` for all features of a view"),
            );
        })
        .ok()
}
