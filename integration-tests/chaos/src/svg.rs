//! Owns the histogram as a picture: it can be read on light and on dark backgrounds, in pages that
//! know nothing of each other.

use std::fmt::Write as _;

use crate::{
    propagation::Times,
    report::{BOUNDS, label},
};

/// Width of the picture.
const WIDTH: u32 = 720;
/// Height of the picture.
const HEIGHT: u32 = 300;
/// From the left edge to the first bar, and from the last bar to the right edge.
const MARGIN: u32 = 30;
/// Where bars stand.
const GROUND: u32 = 250;
/// The highest bar.
const HIGHEST: u32 = 170;
/// Colours that change with the background, and one that is good on both.
const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#57606a}\
    .title{font-size:14px;font-weight:600;fill:#24292f}.bar{fill:#2f81f7}\
    .ground{stroke:#8c959f}\
    @media(prefers-color-scheme:dark){text{fill:#8d96a0}.title{fill:#e6edf3}}";

/// Draws how the times are distributed.
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
        // What is there has to be seen, be it ever so little.
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
