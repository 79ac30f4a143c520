//! Failpoints: places where tests make the process die, wait, or do something wrong on purpose.
//! Without the feature `failpoints`, which no release has, there are none.

/// Aborts or waits here, if a test has configured it.
#[cfg(feature = "failpoints")]
pub fn reached(place: &str) {
    if fail::eval(place, |_| ()).is_some() {
        std::process::abort();
    }
}

/// Does nothing.
#[cfg(not(feature = "failpoints"))]
pub const fn reached(_place: &str) {}

/// Whether a test has configured a fault here, to see that it is detected.
#[cfg(feature = "failpoints")]
pub fn is_on(place: &str) -> bool {
    fail::eval(place, |_| ()).is_some()
}

/// Nothing is done wrong.
#[cfg(not(feature = "failpoints"))]
pub const fn is_on(_place: &str) -> bool {
    false
}
