//! Fits the scan of a Parquet file to its source's normalised schema.
//!
//! Each file may have types of its own. What a scan is asked, columns and the comparisons that prune row groups and
//! pages, is translated into them.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use datafusion::{
    common::{
        ScalarValue,
        config::ConfigOptions,
        tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion},
    },
    error::DataFusionError,
    logical_expr::{Operator, ScalarUDF},
    physical_expr::{
        PhysicalExpr, ScalarFunctionExpr,
        expressions::{BinaryExpr, CastExpr, Column, Literal},
    },
    physical_expr_adapter::{PhysicalExprAdapter, PhysicalExprAdapterFactory},
};
use vintner_core::FeatureType;

use super::normalise::{Conversion, Normalise, conversion};

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
    match unit {
        TimeUnit::Microsecond => Some((op, micros)),
        TimeUnit::Nanosecond => in_nanos(op, micros),
        TimeUnit::Millisecond => in_coarser(op, micros, 1_000),
        TimeUnit::Second => in_coarser(op, micros, 1_000_000),
    }
}

/// A microsecond holds the 1,000 nanoseconds that begin with it.
fn in_nanos(op: Operator, micros: i64) -> Option<(Operator, i64)> {
    let first = |micros: i64| micros.checked_mul(1_000);
    match op {
        Operator::GtEq | Operator::Lt => Some((op, first(micros)?)),
        Operator::Gt => Some((Operator::GtEq, first(micros.checked_add(1)?)?)),
        Operator::LtEq => Some((Operator::Lt, first(micros.checked_add(1)?)?)),
        _ => None,
    }
}

/// The first whole unit at or after the microsecond, or the last one at or before it.
fn in_coarser(op: Operator, micros: i64, unit: i64) -> Option<(Operator, i64)> {
    let before = micros.div_euclid(unit);
    match op {
        Operator::Gt | Operator::LtEq => Some((op, before)),
        Operator::GtEq | Operator::Lt if micros.rem_euclid(unit) == 0 => Some((op, before)),
        Operator::GtEq | Operator::Lt => Some((op, before + 1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        ArrayRef, AsArray, TimestampMillisecondArray, TimestampNanosecondArray,
        TimestampSecondArray,
    };

    use arrow::datatypes::TimestampMicrosecondType;
    use vintner_core::ScalarType;

    use super::*;
    use crate::sources::normalise;

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
        type Make = fn(i64) -> ArrayRef;
        let units: [(TimeUnit, Make); 3] = [
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
}
