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
        DataType, Field, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType,
        TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt64Type,
    },
    error::ArrowError,
    util::display::{ArrayFormatter, FormatOptions},
};
use datafusion::{
    common::{
        ScalarValue,
        config::ConfigOptions,
        tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion},
    },
    error::DataFusionError,
    logical_expr::{
        ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
        Volatility, cast,
    },
    physical_expr::{
        PhysicalExpr, ScalarFunctionExpr,
        expressions::{BinaryExpr, CastExpr, Column, Literal},
    },
    physical_expr_adapter::{PhysicalExprAdapter, PhysicalExprAdapterFactory},
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
enum Conversion {
    None,
    /// The engine's own cast is right, and the engine can reason about it.
    Cast,
    /// The engine's own cast would be wrong or say too little.
    Checked,
}

fn conversion(from: &DataType, wanted: FeatureType) -> Conversion {
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
struct Normalise {
    column: String,
    wanted: FeatureType,
    signature: Signature,
}

impl Normalise {
    fn new(column: &str, wanted: FeatureType) -> Self {
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

/// Fits the scan of a Parquet file, whatever types its columns have, to the normalised schema of its source. What the
/// scan is asked (columns, and comparisons that prune row groups and pages) is translated into the file's own types.
#[derive(Debug)]
pub(super) struct NormalisingAdapter;

#[derive(Debug)]
struct FileAdapter {
    wanted: SchemaRef,
    file: SchemaRef,
}

impl PhysicalExprAdapterFactory for NormalisingAdapter {
    fn create(
        &self,
        wanted: SchemaRef,
        file: SchemaRef,
    ) -> Result<Arc<dyn PhysicalExprAdapter>, DataFusionError> {
        Ok(Arc::new(FileAdapter { wanted, file }))
    }
}

impl PhysicalExprAdapter for FileAdapter {
    fn rewrite(
        &self,
        expr: Arc<dyn PhysicalExpr>,
    ) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
        expr.transform_down(|expr| {
            if let Some(comparison) = expr.downcast_ref::<BinaryExpr>()
                && let Some(translated) = self.comparison(comparison)
            {
                return Ok(Transformed::new(translated, true, TreeNodeRecursion::Jump));
            }
            match expr.downcast_ref::<Column>() {
                Some(column) => {
                    let read = self.column(column)?;
                    Ok(Transformed::new(read, true, TreeNodeRecursion::Jump))
                }
                None => Ok(Transformed::no(expr)),
            }
        })
        .data()
    }
}

impl FileAdapter {
    fn in_file(&self, name: &str) -> Option<(Arc<dyn PhysicalExpr>, DataType)> {
        let index = self.file.index_of(name).ok()?;
        let column = Arc::new(Column::new(name, index));
        Some((column, self.file.field(index).data_type().clone()))
    }

    fn column(&self, column: &Column) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
        let wanted = self.wanted.field_with_name(column.name())?;
        let (read, from) = self.in_file(column.name()).ok_or_else(|| {
            DataFusionError::Execution(format!("the file has no column `{}`", column.name()))
        })?;
        let feature_type = FeatureType::holding(wanted.data_type())
            .map_err(|error| DataFusionError::Internal(error.to_string()))?;
        Ok(match conversion(&from, feature_type) {
            Conversion::None => read,
            Conversion::Cast => Arc::new(CastExpr::new(read, feature_type.arrow(), None)),
            Conversion::Checked => Arc::new(ScalarFunctionExpr::try_new(
                Arc::new(ScalarUDF::from(Normalise::new(column.name(), feature_type))),
                vec![read],
                &self.file,
                Arc::new(ConfigOptions::default()),
            )?),
        })
    }

    /// `time <op> literal`, in the unit and zone of the file's column, with exactly the same rows.
    fn comparison(&self, expr: &BinaryExpr) -> Option<Arc<dyn PhysicalExpr>> {
        let column = expr.left().downcast_ref::<Column>()?;
        let literal = expr.right().downcast_ref::<Literal>()?;
        let ScalarValue::TimestampMicrosecond(Some(micros), _) = literal.value() else {
            return None;
        };
        let (read, DataType::Timestamp(unit, zone)) = self.in_file(column.name())? else {
            return None;
        };
        let at = |value: i64| -> Arc<dyn PhysicalExpr> {
            Arc::new(Literal::new(match unit {
                TimeUnit::Second => ScalarValue::TimestampSecond(Some(value), zone.clone()),
                TimeUnit::Millisecond => {
                    ScalarValue::TimestampMillisecond(Some(value), zone.clone())
                }
                TimeUnit::Microsecond => {
                    ScalarValue::TimestampMicrosecond(Some(value), zone.clone())
                }
                TimeUnit::Nanosecond => ScalarValue::TimestampNanosecond(Some(value), zone.clone()),
            }))
        };
        let (op, value) = in_unit(*expr.op(), *micros, unit)?;
        Some(Arc::new(BinaryExpr::new(read, op, at(value))))
    }
}

/// The comparison with a time of another unit that holds for the same instants as `op micros`.
fn in_unit(op: Operator, micros: i64, unit: TimeUnit) -> Option<(Operator, i64)> {
    use Operator::{Gt, GtEq, Lt, LtEq};
    let coarse = match unit {
        TimeUnit::Microsecond => return Some((op, micros)),
        // A microsecond holds the 1,000 nanoseconds that begin with it.
        TimeUnit::Nanosecond => {
            let first = |micros: i64| micros.checked_mul(1_000);
            return Some(match op {
                GtEq | Lt => (op, first(micros)?),
                Gt => (GtEq, first(micros.checked_add(1)?)?),
                LtEq => (Lt, first(micros.checked_add(1)?)?),
                _ => return None,
            });
        }
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Second => 1_000_000,
    };
    Some(match op {
        // The first whole unit at or after, the last at or before.
        GtEq | Lt => (op, -((-i128::from(micros)).div_euclid(coarse)) as i64),
        Gt | LtEq => (op, micros.div_euclid(coarse as i64)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray};

    use super::*;

    const TIMESTAMP: FeatureType = FeatureType::Scalar(ScalarType::Timestamp);

    fn holds(left: i64, op: Operator, right: i64) -> bool {
        match op {
            Operator::Lt => left < right,
            Operator::LtEq => left <= right,
            Operator::Gt => left > right,
            _ => left >= right,
        }
    }

    #[test]
    fn a_comparison_in_another_unit_holds_for_the_same_instants() {
        let values = [
            -2_000_001, -2_000_000, -1_001, -1_000, -999, -1, 0, 1, 999, 1_000, 1_001, 2_000_000,
            2_000_001,
        ];
        let units: [(TimeUnit, fn(i64) -> ArrayRef); 3] = [
            (TimeUnit::Second, |v| {
                Arc::new(TimestampSecondArray::from(vec![v]))
            }),
            (TimeUnit::Millisecond, |v| {
                Arc::new(TimestampMillisecondArray::from(vec![v]))
            }),
            (TimeUnit::Nanosecond, |v| {
                Arc::new(TimestampNanosecondArray::from(vec![v]))
            }),
        ];
        for (unit, array) in units {
            for value in values {
                let read = normalise("at", &array(value), TIMESTAMP).unwrap();
                let micros = read.as_primitive::<TimestampMicrosecondType>().value(0);
                for op in [Operator::Lt, Operator::LtEq, Operator::Gt, Operator::GtEq] {
                    for bound in values {
                        let (in_unit_op, in_unit_bound) = in_unit(op, bound, unit).unwrap();
                        assert_eq!(
                            holds(value, in_unit_op, in_unit_bound),
                            holds(micros, op, bound),
                            "{value} {unit:?} {op} {bound} us"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_bound_that_the_unit_cannot_hold_is_not_translated() {
        for (op, bound) in [
            (Operator::Lt, i64::MAX),
            (Operator::Gt, i64::MAX),
            (Operator::GtEq, i64::MIN),
        ] {
            assert!(in_unit(op, bound, TimeUnit::Nanosecond).is_none());
        }
        assert!(in_unit(Operator::Eq, 1, TimeUnit::Second).is_none());
        for bound in [i64::MIN, i64::MAX] {
            for op in [Operator::Lt, Operator::LtEq, Operator::Gt, Operator::GtEq] {
                assert!(in_unit(op, bound, TimeUnit::Second).is_some());
            }
        }
    }

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
