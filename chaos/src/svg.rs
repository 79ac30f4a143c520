//! SVG pictures of the histogram and of the coverage. They are readable on light and on dark
//! backgrounds, independently of the page around them.

use std::fmt::Write as _;

use crate::{
    coverage::Coverage,
    fault::FaultKind,
    propagation::Times,
    report::{BOUNDS, label},
};

/// Width of the picture.
const WIDTH: u32 = 720;
/// Height of the picture.
const HEIGHT: u32 = 300;
/// From the left edge to the first bar, and from the last bar to the right edge.
const MARGIN: u32 = 30;
/// The base line of the bars.
const GROUND: u32 = 250;
/// The height of the highest bar.
const HIGHEST: u32 = 170;
/// Colours that follow the background, and one that suits both.
const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#57606a}\
    .title{font-size:14px;font-weight:600;fill:#24292f}.bar{fill:#2f81f7}\
    .ground{stroke:#8c959f}\
    @media(prefers-color-scheme:dark){text{fill:#8d96a0}.title{fill:#e6edf3}}";

/// Draws the distribution of the times.
#[must_use]
pub fn draw(title: &str, times: &Times) -> String {
    let mut picture = String::new();
    let title = escaped(title);
    // Writing to a string cannot fail.
    let _ = write!(
        picture,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n\
         <style>{STYLE}</style>\n\
         <text class=\"title\" x=\"{MARGIN}\" y=\"24\">{title}</text>\n\
         <text x=\"{MARGIN}\" y=\"44\">{}</text>\n",
        summary(times)
    );
    let buckets = times.buckets(&BOUNDS);
    let count = u32::try_from(buckets.len()).unwrap_or(1).max(1);
    let step = (WIDTH - 2 * MARGIN) / count;
    let longest = buckets.iter().copied().max().unwrap_or_default().max(1);
    for (place, (count, x)) in buckets.iter().zip((MARGIN..).step_by(step as usize)).enumerate() {
        let share = u32::try_from(count * u64::from(HIGHEST) / longest).unwrap_or_default();
        // Even the smallest count must be visible.
        let height = if *count > 0 { share.max(1) } else { 0 };
        let (top, middle, width) = (GROUND - height, x + step / 2, step - 6);
        let _ = writeln!(
            picture,
            "<rect class=\"bar\" x=\"{}\" y=\"{top}\" width=\"{width}\" height=\"{height}\"/>\
             <text text-anchor=\"middle\" x=\"{middle}\" y=\"{}\">{count}</text>\
             <text text-anchor=\"middle\" x=\"{middle}\" y=\"{}\">{}</text>",
            x + 3,
            top - 5,
            GROUND + 18,
            escaped(&label(place).replace(" ms", "")),
        );
    }
    let _ = write!(
        picture,
        "<line class=\"ground\" x1=\"{MARGIN}\" y1=\"{GROUND}\" x2=\"{}\" y2=\"{GROUND}\"/>\n\
         <text text-anchor=\"middle\" x=\"{}\" y=\"{}\">milliseconds</text>\n</svg>\n",
        WIDTH - MARGIN,
        WIDTH / 2,
        HEIGHT - 10,
    );
    picture
}

/// Height of a line of the coverage.
const LINE: u32 = 20;
/// Where its bars begin, and the length of the longest.
const BARS: u32 = 190;
/// See [`BARS`].
const LONGEST: u32 = 240;

/// Draws the injections of each kind of fault, and the upper bound of its miss rate.
#[must_use]
pub fn coverage(title: &str, coverage: &Coverage) -> String {
    let kinds = FaultKind::ALL.map(|kind| (kind, coverage.of(kind)));
    let most = kinds.iter().map(|(_, counts)| counts.injected).max().unwrap_or_default().max(1);
    let height = 70 + LINE * u32::try_from(kinds.len()).unwrap_or_default();
    let title = escaped(title);
    let mut picture = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        picture,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-label=\"{title}\">\n\
         <style>{STYLE}</style>\n\
         <text class=\"title\" x=\"{MARGIN}\" y=\"24\">{title}</text>\n\
         <text x=\"{MARGIN}\" y=\"44\">injected; revocations under way; missed, and the rate that is \
         exceeded with a chance of at most 5 %</text>\n"
    );
    for ((kind, counts), y) in kinds.iter().zip((64..).step_by(LINE as usize)) {
        let share = counts.injected * u64::from(LONGEST) / most;
        let width = u32::try_from(share).unwrap_or(LONGEST);
        let [rate, _] = counts.bounds();
        let _ = writeln!(
            picture,
            "<text x=\"{MARGIN}\" y=\"{}\">{kind}</text>\
             <rect class=\"bar\" x=\"{BARS}\" y=\"{y}\" width=\"{width}\" height=\"14\"/>\
             <text x=\"{}\" y=\"{}\">{}; {}; {} missed, below {:.2} %</text>",
            y + 11,
            BARS + width + 8,
            y + 11,
            counts.injected,
            counts.under_way,
            counts.missed,
            rate * 1e2,
        );
    }
    picture.push_str("</svg>\n");
    picture
}

fn summary(times: &Times) -> String {
    format!(
        "{} revocations: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        times.count(),
        times.quantile(0.5),
        times.quantile(0.99),
        times.max()
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
