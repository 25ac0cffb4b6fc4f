//! Which of two rows of equal times wins: the one with the greater values.
//!
//! Values are compared feature by feature in the order of the features' names, all of them, asked for or not, so that
//! neither the layout of files nor the choice of columns decides. Null is smaller than any value; floats are in IEEE
//! total order; strings and bytes bytewise; lists element by element, then by length.

use std::cmp::Ordering;

use arrow::{
    array::{ArrayRef, DynComparator, make_comparator},
    compute::SortOptions,
    error::ArrowError,
};
use vintner_core::{FeatureName, FeatureType};

/// The order in which a view's features are compared.
#[derive(Debug, Clone)]
pub struct TieBreak(Vec<usize>);

/// Compares rows of two sets of columns of one view.
pub struct RowComparator(Vec<DynComparator>);

impl std::fmt::Debug for RowComparator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RowComparator")
    }
}

impl TieBreak {
    /// For a view of these features.
    pub fn new(features: &[(FeatureName, FeatureType)]) -> Self {
        let mut places: Vec<usize> = (0..features.len()).collect();
        places.sort_by_key(|&place| &features[place].0);
        Self(places)
    }

    /// A comparison of rows of `left` with rows of `right`.
    ///
    /// # Errors
    /// [`ArrowError`] when the columns of both sides have different types.
    pub fn between(
        &self,
        left: &[ArrayRef],
        right: &[ArrayRef],
    ) -> Result<RowComparator, ArrowError> {
        let nulls_first = SortOptions {
            descending: false,
            nulls_first: true,
        };
        let columns = self
            .0
            .iter()
            .map(|&place| make_comparator(&left[place], &right[place], nulls_first));
        Ok(RowComparator(columns.collect::<Result<_, _>>()?))
    }
}

impl RowComparator {
    /// How a row of the left side stands to one of the right.
    pub fn compare(&self, left: usize, right: usize) -> Ordering {
        let mut columns = self.0.iter().map(|compare| compare(left, right));
        columns
            .find(|ordering| ordering.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

#[cfg(test)]
mod tests {
    use vintner_core::{ScalarType, Value, arrow_values};

    use super::*;

    /// Values of one type, ascending.
    fn check(feature_type: FeatureType, ascending: &[Option<Value>]) {
        let ties = TieBreak::new(&[("f".parse().unwrap(), feature_type)]);
        let column = arrow_values::column(feature_type, ascending.iter().map(Option::as_ref));
        let columns = [column];
        let rows = ties.between(&columns, &columns).unwrap();
        for left in 0..ascending.len() {
            for right in 0..ascending.len() {
                assert_eq!(
                    rows.compare(left, right),
                    left.cmp(&right),
                    "{:?} and {:?}",
                    ascending[left],
                    ascending[right]
                );
            }
        }
    }

    #[test]
    fn values_of_every_type_have_one_order() {
        use Value as V;
        let lists = |lists: &[&[Option<i32>]]| -> Vec<Option<Value>> {
            let list = |items: &[Option<i32>]| {
                V::List(
                    ScalarType::Int32,
                    items.iter().map(|i| i.map(V::Int32)).collect(),
                )
            };
            lists.iter().map(|items| Some(list(items))).collect()
        };
        let after_null = |values: Vec<Value>| -> Vec<Option<Value>> {
            std::iter::once(None)
                .chain(values.into_iter().map(Some))
                .collect()
        };
        for ascending in [
            after_null([false, true].map(V::Bool).into()),
            after_null([i32::MIN, -1, 0, i32::MAX].map(V::Int32).into()),
            after_null([i64::MIN, -1, 0, i64::MAX].map(V::Int64).into()),
            after_null(
                [
                    -f32::NAN,
                    f32::NEG_INFINITY,
                    -1.0,
                    -0.0,
                    0.0,
                    f32::MIN_POSITIVE,
                    f32::INFINITY,
                    f32::NAN,
                ]
                .map(V::Float32)
                .into(),
            ),
            after_null(
                [
                    -f64::NAN,
                    f64::NEG_INFINITY,
                    -1.0,
                    -0.0,
                    0.0,
                    f64::MIN_POSITIVE,
                    f64::INFINITY,
                    f64::NAN,
                ]
                .map(V::Float64)
                .into(),
            ),
            after_null(["", "A", "Z", "a", "é"].map(|s| V::String(s.into())).into()),
            after_null(
                [&[][..], &[0], &[0, 0], &[1], &[255]]
                    .map(|b| V::Bytes(b.into()))
                    .into(),
            ),
            lists(&[
                &[],
                &[None],
                &[None, None],
                &[None, Some(0)],
                &[Some(-1), Some(9)],
                &[Some(0)],
                &[Some(0), None],
            ]),
        ] {
            let last = ascending.last().unwrap().as_ref().unwrap();
            check(last.feature_type(), &ascending);
        }
    }

    #[test]
    fn features_are_compared_in_the_order_of_their_names() {
        let int = FeatureType::Scalar(ScalarType::Int32);
        let ties = TieBreak::new(&[("b".parse().unwrap(), int), ("a".parse().unwrap(), int)]);
        let column = |values: [i32; 2]| {
            let values = values.map(Value::Int32);
            arrow_values::column(int, values.iter().map(Some))
        };
        let columns = [column([9, 1]), column([1, 2])];
        let rows = ties.between(&columns, &columns).unwrap();
        assert_eq!(rows.compare(0, 1), Ordering::Less);
        assert_eq!(rows.compare(1, 1), Ordering::Equal);
    }
}
