//! Random names and numbers, from the operating system.

use aws_lc_rs::rand;

/// The operating system gives no random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random numbers")]
pub struct RandomError;

/// A unique name, 32 characters long.
pub(crate) fn random_name() -> Result<String, RandomError> {
    let mut bytes = [0_u8; 16];
    rand::fill(&mut bytes).map_err(|_| RandomError)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// A random number. If the system cannot provide one, it is the largest: no pause is shorter for
/// that.
pub(crate) fn random_byte() -> u8 {
    #[cfg(test)]
    if let Some(byte) = crate::ambient::random_byte() {
        return byte;
    }
    let mut byte = [u8::MAX];
    let _ = rand::fill(&mut byte);
    byte[0]
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
}
