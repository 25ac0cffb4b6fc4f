//! Pushes.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::{Field, Schema},
};
use vintner_core::{Column, FeatureType, ViewId, arrow_values};
use vintner_ops::api::{Producer, PushOutcome, PushReport, PushRequest};
use vintner_proto::{
    convert::{ConvertError, each},
    v1,
};

use super::{Travels, missing, parse, required, values, wrong};

impl Travels for PushRequest {
    type Message = v1::PushRequest;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        let schema = self.rows.schema();
        let columns = schema.fields().iter().zip(self.rows.columns());
        let columns = columns.map(|(field, column)| row_column(field, column));
        Ok(v1::PushRequest {
            view: match self.version {
                Some(version) => format!("{}@{version}", self.view),
                None => self.view.to_string(),
            },
            columns: columns.collect::<Result<_, _>>()?,
            producer: self.producer.map(|producer| v1::Producer {
                name: producer.name,
                sequence: producer.sequence,
            }),
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        let (view, version) = match message.view.contains('@') {
            true => {
                let id: ViewId = parse("view", &message.view)?;
                (id.name, Some(id.version))
            }
            false => (parse("view", &message.view)?, None),
        };
        let columns: Vec<(Field, ArrayRef)> = each(message.columns, "columns", column)?;
        let (fields, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let rows = columns.first().map_or(0, |column| column.len());
        if let Some((field, column)) = fields.iter().zip(&columns).find(|(_, c)| c.len() != rows) {
            return Err(wrong(format!(
                "`{}` has {} rows and `{}` has {rows}; give all the same number",
                field.name(),
                column.len(),
                fields.first().map_or("", |first| first.name().as_str()),
            ))
            .within("columns"));
        }
        let rows = match columns.is_empty() {
            true => RecordBatch::new_empty(Arc::new(Schema::empty())),
            false => RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(wrong)?,
        };
        Ok(Self {
            view,
            version,
            rows,
            producer: message.producer.map(|producer| Producer {
                name: producer.name,
                sequence: producer.sequence,
            }),
        })
    }
}

fn row_column(field: &Field, column: &ArrayRef) -> Result<v1::RowColumn, ConvertError> {
    let name = field.name();
    let feature_type = FeatureType::holding(column.data_type())
        .map_err(|error| wrong(format!("`{name}`: {error}")))?;
    let values = (0..column.len()).map(|row| arrow_values::value_at(column, feature_type, row));
    Ok(v1::RowColumn {
        name: name.clone(),
        values: Some(values::encode(
            Column::of(feature_type, values).map_err(wrong)?,
        )),
    })
}

fn column(message: v1::RowColumn) -> Result<(Field, ArrayRef), ConvertError> {
    let values = message.values.ok_or_else(|| missing("values"))?;
    let column = values::decode(values).map_err(|error| error.within("values"))?;
    let values: Vec<_> = column.iter().collect();
    let column = arrow_values::column(column.feature_type(), values.iter().map(Option::as_ref));
    Ok((
        Field::new(message.name, column.data_type().clone(), true),
        column,
    ))
}

impl Travels for PushReport {
    type Message = v1::PushResponse;

    fn into_message(self) -> Result<Self::Message, ConvertError> {
        Ok(v1::PushResponse {
            view: Some(self.view.into_message()?),
            rows: self.rows,
            already_there: self.outcome == PushOutcome::AlreadyThere,
            online: self.online,
            late: self.late,
            token: self.token.to_string(),
            micros: self.micros,
        })
    }

    fn from_message(message: Self::Message) -> Result<Self, ConvertError> {
        Ok(Self {
            view: required("view", message.view)?,
            rows: message.rows,
            outcome: match message.already_there {
                true => PushOutcome::AlreadyThere,
                false => PushOutcome::Written,
            },
            online: message.online,
            late: message.late,
            token: parse("token", &message.token)?,
            micros: message.micros,
        })
    }
}
