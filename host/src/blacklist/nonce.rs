//! Owns chance: names that nobody else has, and pauses that not everybody makes at the same time.

use std::{fmt::Write as _, time::Duration};

use aws_lc_rs::rand;

/// The operating system gives no random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random numbers")]
pub struct NoChance;

/// A name that nobody else has, 32 characters long.
pub(super) fn random_name() -> Result<String, NoChance> {
    let mut bytes = [0_u8; 16];
    rand::fill(&mut bytes).map_err(|_| NoChance)?;
    let mut name = String::with_capacity(32);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    Ok(name)
}

/// `pause` or more, up to twice as much.
pub(super) fn jittered(pause: Duration) -> Duration {
    let mut byte = [0_u8];
    // Without chance it is no pause at all that is dangerous, not one without jitter.
    let _ = rand::fill(&mut byte);
    pause + pause * u32::from(byte[0]) / 256
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_names_are_the_same() {
        let (one, other) = (random_name().unwrap(), random_name().unwrap());
        assert_ne!(one, other);
        assert!(one.len() == 32 && one.bytes().all(|byte| byte.is_ascii_hexdigit()), "{one}");
    }

    #[test]
    fn a_pause_is_never_shorter_and_never_twice_as_long() {
        let pause = Duration::from_millis(100);
        assert!((0..1000).map(|_| jittered(pause)).all(|it| it >= pause && it < 2 * pause));
    }
}
