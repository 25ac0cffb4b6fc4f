//! Saved training datasets.

use vintner_core::RegistryVersion;
use vintner_ops::api::{Dataset, KeptRows, ResultRows, Split, TableRead};
use vintner_proto::{
    convert::{self, ConvertError},
    v1,
};
use vintner_registry::selection::NameStyle;

use super::{
    Travels, from_each, instant, optional, parse, parse_each, required, texts, to_each, wrong,
};

impl Travels for Dataset {
    type Message = v1::Dataset;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::Dataset {
            name: self.name.to_string(),
            created_at: self.created_at.micros(),
            author: self.author,
            registry_version: self.registry_version.0,
            features: Some(self.selection.into_message()?),
            column_names: self.names.into_message()?,
            knowledge: v1::KnowledgeMode::from(self.knowledge).into(),
            boundary: v1::BoundaryMode::from(self.boundary).into(),
            timestamp_column: self.timestamp_column,
            split: self.split.map(Travels::into_message).transpose()?,
            tables: to_each(self.tables)?,
            entity_rows: Some(self.entity_rows.into_message()?),
            result_rows: self.result.rows,
            result_hash: self.result.hash.to_string(),
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            name: parse("name", &message.name)?,
            created_at: instant(message.created_at),
            author: message.author,
            registry_version: RegistryVersion(message.registry_version),
            selection: required("features", message.features)?,
            names: NameStyle::from_message(message.column_names)?,
            knowledge: convert::knowledge(message.knowledge).map_err(|e| e.within("knowledge"))?,
            boundary: convert::boundary(message.boundary).map_err(|e| e.within("boundary"))?,
            timestamp_column: message.timestamp_column,
            split: optional("split", message.split)?,
            tables: from_each("tables", message.tables)?,
            entity_rows: required("entity_rows", message.entity_rows)?,
            result: ResultRows {
                rows: message.result_rows,
                hash: parse("result_hash", &message.result_hash)?,
            },
        })
    }
}

impl Travels for Split {
    type Message = v1::Split;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::Split {
            parts: self.parts(),
            by: self.by().map(texts).unwrap_or_default(),
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        let by = match message.by.is_empty() {
            true => None,
            false => Some(parse_each("by", &message.by)?),
        };
        Self::new(&message.parts, by).map_err(wrong)
    }
}

impl Travels for TableRead {
    type Message = v1::TableRead;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::TableRead {
            view: Some(self.view.into_message()?),
            delta_version: self.delta_version,
            delta_id: self.delta_id,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            view: required("view", message.view)?,
            delta_version: message.delta_version,
            delta_id: message.delta_id,
        })
    }
}

impl Travels for KeptRows {
    type Message = v1::KeptRows;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::KeptRows {
            file: self.file,
            bytes: self.bytes,
            rows: self.rows,
            hash: self.hash.to_string(),
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            hash: parse("hash", &message.hash)?,
            file: message.file,
            bytes: message.bytes,
            rows: message.rows,
        })
    }
}
