//! How a column of any Arrow type becomes one of exactly [`FeatureType::arrow`], at the source's edge and nowhere later.
//!
//! * Times without a zone are UTC; units finer than a microsecond are cut off towards the past, so that a row never
//!   moves into the future.
//! * A value that the type cannot hold is an error, never a null.
//! * Not here: which files and columns there are.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, ArrowPrimitiveType, AsArray, Int64Array, ListArray, PrimitiveArray,
        TimestampMicrosecondArray,
    },
    compute::{CastOptions, cast_with_options},
    datatypes::{
        DataType, Field, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
        TimestampNanosecondType, TimestampSecondType, UInt64Type,
    },
    error::ArrowError,
    util::display::{ArrayFormatter, FormatOptions},
};
use datafusion::{
    common::ScalarValue,
    error::DataFusionError,
    logical_expr::{
        ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
        cast,
    },
};
use vintner_core::{FeatureType, ScalarType};

/// A value that a type cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the value {value} in `{column}` is not of type {wanted}")]
pub struct LossyValue {
    /// The row of the array it is in.
    pub row: usize,
    /// The column.
    pub column: String,
    /// The value, as text.
    pub value: String,
    /// The type it should have.
    pub wanted: FeatureType,
}

/// The type that both hold without loss: how the files of one folder, or a file and what was applied, may differ.
pub(crate) fn widened(a: FeatureType, b: FeatureType) -> Option<FeatureType> {
    use ScalarType::{Float32, Float64, Int32, Int64};
    let (FeatureType::Scalar(x), FeatureType::Scalar(y)) = (a, b) else {
        return (a == b).then_some(a);
    };
    Some(FeatureType::Scalar(match (x, y) {
        _ if x == y => x,
        (Int32, Int64) | (Int64, Int32) => Int64,
        (Float32 | Int32, Float64) | (Float64, Float32 | Int32) => Float64,
        _ => return None,
    }))
}

/// The column as exactly `wanted.arrow()`; as long, null where it is null.
///
/// # Errors
/// [`LossyValue`] for the first value that `wanted` cannot hold, and for types it cannot be made from at all.
pub fn normalise(
    column: &str,
    array: &ArrayRef,
    wanted: FeatureType,
) -> Result<ArrayRef, LossyValue> {
    let arrow = wanted.arrow();
    if *array.data_type() == arrow {
        return Ok(Arc::clone(array));
    }
    let array = without_dictionary(array);
    let converted = match (array.data_type(), wanted) {
        (DataType::Timestamp(unit, _), FeatureType::Scalar(ScalarType::Timestamp)) => {
            micros(&array, *unit)
        }
        (DataType::UInt64, FeatureType::Scalar(ScalarType::Int64)) => int64(&array),
        (
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..),
            FeatureType::List(element),
        ) => return list(column, &array, element),
        _ => checked_cast(&array, &arrow),
    };
    converted.map_err(|row| LossyValue {
        row,
        column: column.to_owned(),
        value: shown(&array, row),
        wanted,
    })
}

/// The expression as exactly `wanted.arrow()`, for logical plans. `from` is its type, `label` the name for messages.
pub fn normalised(expr: Expr, from: &DataType, wanted: FeatureType, label: &str) -> Expr {
    match conversion(from, wanted) {
        Conversion::None => expr,
        Conversion::Cast => cast(expr, wanted.arrow()),
        Conversion::Checked => ScalarUDF::from(Normalise::new(label, wanted)).call(vec![expr]),
    }
}

/// How much work a conversion is.
pub(super) enum Conversion {
    None,
    /// The engine's own cast is right, and the engine can reason about it.
    Cast,
    /// The engine's own cast would be wrong or say too little.
    Checked,
}

pub(super) fn conversion(from: &DataType, wanted: FeatureType) -> Conversion {
    match from {
        _ if *from == wanted.arrow() => Conversion::None,
        DataType::Timestamp(..)
        | DataType::UInt64
        | DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(..) => Conversion::Checked,
        _ => Conversion::Cast,
    }
}

fn without_dictionary(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Dictionary(_, values) => {
            cast_with_options(array, values, &STRICT).unwrap_or_else(|_| Arc::clone(array))
        }
        _ => Arc::clone(array),
    }
}

const STRICT: CastOptions<'static> = CastOptions {
    safe: false,
    format_options: FormatOptions::new(),
};

const LENIENT: CastOptions<'static> = CastOptions {
    safe: true,
    format_options: FormatOptions::new(),
};

/// The array as microseconds UTC, or the row that does not fit.
fn micros(array: &ArrayRef, unit: TimeUnit) -> Result<ArrayRef, usize> {
    let micros: TimestampMicrosecondArray = match unit {
        TimeUnit::Second => each::<TimestampSecondType, _>(array, |v| v.checked_mul(1_000_000))?,
        TimeUnit::Millisecond => {
            each::<TimestampMillisecondType, _>(array, |v| v.checked_mul(1_000))?
        }
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().clone(),
        TimeUnit::Nanosecond => {
            each::<TimestampNanosecondType, _>(array, |v| Some(v.div_euclid(1_000)))?
        }
    };
    Ok(Arc::new(micros.with_timezone("UTC")))
}

fn int64(array: &ArrayRef) -> Result<ArrayRef, usize> {
    let converted: Int64Array = each::<UInt64Type, Int64Type>(array, |v| i64::try_from(v).ok())?;
    Ok(Arc::new(converted))
}

fn each<From: ArrowPrimitiveType, To: ArrowPrimitiveType>(
    array: &ArrayRef,
    convert: impl Fn(From::Native) -> Option<To::Native>,
) -> Result<PrimitiveArray<To>, usize> {
    let from = array.as_primitive::<From>();
    from.try_unary(|value| convert(value).ok_or(()))
        .map_err(|()| {
            (0..from.len())
                .find(|row| from.is_valid(*row) && convert(from.value(*row)).is_none())
                .unwrap_or_default()
        })
}

fn list(column: &str, array: &ArrayRef, element: ScalarType) -> Result<ArrayRef, LossyValue> {
    let unreadable = |_: ArrowError| LossyValue {
        row: 0,
        column: column.to_owned(),
        value: format!("of type {}", array.data_type()),
        wanted: FeatureType::List(element),
    };
    let (DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)) =
        array.data_type()
    else {
        return Ok(Arc::clone(array));
    };
    let same_items = Field::new("item", item.data_type().clone(), true);
    let lists = cast_with_options(array, &DataType::List(Arc::new(same_items)), &STRICT)
        .map_err(unreadable)?;
    let lists = lists.as_list::<i32>();
    let items = normalise(column, lists.values(), FeatureType::Scalar(element))?;
    let field = Arc::new(Field::new("item", element.arrow(), true));
    ListArray::try_new(
        field,
        lists.offsets().clone(),
        items,
        lists.nulls().cloned(),
    )
    .map(|lists| Arc::new(lists) as ArrayRef)
    .map_err(unreadable)
}

fn checked_cast(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, usize> {
    // A date is an instant only after the unit is known; Arrow has no direct cast to one with a zone.
    if let DataType::Date32 | DataType::Date64 = array.data_type() {
        let naive = DataType::Timestamp(TimeUnit::Microsecond, None);
        let naive = checked_cast(array, &naive)?;
        return micros(&naive, TimeUnit::Microsecond);
    }
    cast_with_options(array, wanted, &STRICT).map_err(|_| {
        let lenient = cast_with_options(array, wanted, &LENIENT);
        lenient
            .ok()
            .and_then(|lenient| {
                (0..array.len()).find(|row| array.is_valid(*row) && lenient.is_null(*row))
            })
            .unwrap_or_default()
    })
}

/// The value as text, for messages.
fn shown(array: &ArrayRef, row: usize) -> String {
    let text = |array: &ArrayRef| {
        let formatter = ArrayFormatter::try_new(array, &FormatOptions::new()).ok()?;
        formatter.value(row).try_to_string().ok()
    };
    if row >= array.len() {
        return format!("of type {}", array.data_type());
    }
    match array.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            text(array).map(|text| format!("{text:?}"))
        }
        // A time that no calendar reaches has no text, but a number.
        DataType::Timestamp(..) => text(array).or_else(|| {
            let numbers = cast_with_options(array, &DataType::Int64, &STRICT).ok()?;
            text(&numbers)
        }),
        _ => text(array),
    }
    .unwrap_or_else(|| format!("of type {}", array.data_type()))
}

/// [`normalise`] as a function of the engine. The name appears in `EXPLAIN` only.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Normalise {
    column: String,
    wanted: FeatureType,
    signature: Signature,
}

impl Normalise {
    pub(super) fn new(column: &str, wanted: FeatureType) -> Self {
        Self {
            column: column.to_owned(),
            wanted,
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Normalise {
    fn name(&self) -> &str {
        "normalise"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType, DataFusionError> {
        Ok(self.wanted.arrow())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue, DataFusionError> {
        let lossy = |error: LossyValue| DataFusionError::External(Box::new(error));
        match args.args.as_slice() {
            [ColumnarValue::Array(array)] => Ok(ColumnarValue::Array(
                normalise(&self.column, array, self.wanted).map_err(lossy)?,
            )),
            [ColumnarValue::Scalar(scalar)] => {
                let array =
                    normalise(&self.column, &scalar.to_array()?, self.wanted).map_err(lossy)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
                    &array, 0,
                )?))
            }
            _ => Err(DataFusionError::Internal(
                "normalise takes one argument".to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_holds_every_value_is_wider() {
        for (a, b, want) in [
            ("int32", "int64", Some("int64")),
            ("int64", "int32", Some("int64")),
            ("float32", "float64", Some("float64")),
            ("int32", "float64", Some("float64")),
            ("int64", "float64", None),
            ("int32", "float32", None),
            ("int32", "string", None),
            ("list<int32>", "list<int32>", Some("list<int32>")),
            ("list<int32>", "list<int64>", None),
        ] {
            let found = widened(a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(found.map(|t| t.to_string()).as_deref(), want, "{a} and {b}");
        }
    }
}
