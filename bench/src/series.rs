//! Series of one figure, measured once per round: median and spread.

/// The values of a figure, one per round.
#[derive(Debug, Clone)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    /// Orders the values.
    pub(crate) fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The median, which one disturbed round does not move. NaN without rounds.
    pub(crate) fn median(&self) -> f64 {
        let at = |n: usize| self.0.get(n).copied().unwrap_or(f64::NAN);
        let middle = self.0.len() / 2;
        if self.0.len().is_multiple_of(2) {
            f64::midpoint(at(middle.saturating_sub(1)), at(middle))
        } else {
            at(middle)
        }
    }

    /// The share of values up to `limit`, from 0 to 1. NaN without values.
    pub(crate) fn share_up_to(&self, limit: f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "some thousands of values")]
        let count = |n: usize| n as f64;
        count(self.0.partition_point(|value| *value <= limit)) / count(self.0.len())
    }

    /// The smallest and the largest value.
    pub(crate) fn spread(&self) -> [f64; 2] {
        [self.0.first(), self.0.last()].map(|value| value.copied().unwrap_or(f64::NAN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_one_disturbed_round() {
        let series = Series::new([10.0, 11.0, 900.0]);
        assert!((series.median() - 11.0).abs() < 1e-9);
        let [low, high] = series.spread();
        assert!(low < 10.5 && high > 899.5);
        assert!((Series::new([1.0, 2.0]).median() - 1.5).abs() < 1e-9);
        assert!(Series::new([]).median().is_nan());
    }
}
