//! Exposition: converting readings to Prometheus metric families. It counts nothing itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType, Quantile,
    Summary,
};

use super::histogram::{BOUNDS, DurationTotals, WindowTotals};

/// The quantiles of the summary, as label and as a fraction.
const QUANTILES: [(f64, u64, u64); 3] = [(0.5, 1, 2), (0.9, 9, 10), (0.99, 99, 100)];

/// Label names with their values.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// A counter.
pub(super) fn counter(labels: Labels<'_>, value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(as_f64(value));
    let mut metric = Metric::from_label(pairs(labels));
    metric.set_counter(counter);
    metric
}

/// A gauge.
pub(super) fn gauge(labels: Labels<'_>, value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_label(pairs(labels));
    metric.set_gauge(gauge);
    metric
}

/// A histogram, without the `+Inf` bucket, which the encoder adds.
pub(super) fn histogram(labels: Labels<'_>, totals: &DurationTotals) -> Metric {
    let mut cumulative = 0;
    let buckets = BOUNDS.iter().zip(&totals.buckets).map(|(bound, samples)| {
        cumulative += samples;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound.as_secs_f64());
        bucket.set_cumulative_count(cumulative);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(totals.count());
    histogram.set_sample_sum(as_f64(totals.nanos) / 1e9);
    let mut metric = Metric::from_label(pairs(labels));
    metric.set_histogram(histogram);
    metric
}

/// A summary: quantiles over the window, count and sum since the start.
pub(super) fn summary(totals: &DurationTotals, window: &WindowTotals) -> Metric {
    let quantiles = QUANTILES.iter().map(|(label, numerator, denominator)| {
        let mut quantile = Quantile::default();
        quantile.set_quantile(*label);
        quantile.set_value(window.quantile_seconds(*numerator, *denominator));
        quantile
    });
    let mut summary = Summary::default();
    summary.set_quantile(quantiles.collect());
    summary.set_sample_count(totals.count());
    summary.set_sample_sum(as_f64(totals.nanos) / 1e9);
    let mut metric = Metric::default();
    metric.set_summary(summary);
    metric
}

/// A counter for each value of a label.
pub(super) fn by_label<const N: usize>(
    label: &str,
    values: [&str; N],
    counts: &[AtomicU64; N],
) -> impl Iterator<Item = Metric> {
    values
        .into_iter()
        .zip(counts)
        .map(move |(value, count)| counter(&[(label, value)], count.load(Relaxed)))
}

/// A family of one counter without labels.
pub(super) fn count(name: &str, help: &str, value: u64) -> MetricFamily {
    counters(name, help, [counter(&[], value)])
}

/// A family of one gauge without labels.
pub(super) fn level(name: &str, help: &str, value: f64) -> MetricFamily {
    gauges(name, help, [gauge(&[], value)])
}

/// A family of one gauge that is 1 or 0.
pub(super) fn flag(name: &str, help: &str, is: &AtomicBool) -> MetricFamily {
    level(name, help, f64::from(u8::from(is.load(Relaxed))))
}

/// A family of counters.
pub(super) fn counters(
    name: &str,
    help: &str,
    metrics: impl IntoIterator<Item = Metric>,
) -> MetricFamily {
    family(name, help, MetricType::COUNTER, metrics)
}

/// A family of gauges.
pub(super) fn gauges(
    name: &str,
    help: &str,
    metrics: impl IntoIterator<Item = Metric>,
) -> MetricFamily {
    family(name, help, MetricType::GAUGE, metrics)
}

/// A named family of metrics of one kind.
pub(super) fn family(
    name: &str,
    help: &str,
    kind: MetricType,
    metrics: impl IntoIterator<Item = Metric>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics.into_iter().collect());
    family
}

fn pairs(labels: Labels<'_>) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    labels.iter().map(pair).collect()
}

/// Prometheus has only floating-point numbers.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53, a thousand years of requests")]
pub(super) fn as_f64(count: u64) -> f64 {
    count as f64
}
