//! Strength of public keys: refuses those under which others than their owner could sign.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
    VerificationAlgorithm,
};

use super::key_fault::KeyFault;

/// What the crypto library verifies. Shorter keys can be factored (RFC 7518 section 3.3).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The points of small order of Ed25519 as (low, high) halves, the sign of x left out. With one of
/// them as the public key, any party can make signatures.
const SMALL_ORDER_POINTS: [(u128, u128); 7] = [
    (0, 0),
    (1, 0),
    (0xf098_eff2_89f4_c345_b027_b2c2_8f95_e826, 0x05fc_536d_8802_38b1_3933_c6d3_05ac_dfd5),
    (0x0f67_100d_760b_3cba_4fd8_4d3d_706a_17c7, 0x7a03_ac92_77fd_c74e_c6cc_392c_fa53_202a),
    // p - 1, p and p + 1, where p = 2^255 - 19.
    (u128::MAX - 19, u128::MAX >> 1),
    (u128::MAX - 18, u128::MAX >> 1),
    (u128::MAX - 17, u128::MAX >> 1),
];

/// The primes by which the ROCA fingerprint is taken.
const ROCA_PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
    101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Checks an RSA key's modulus and exponent, both big-endian without leading zeros.
pub(super) fn check_rsa(modulus: &[u8], exponent: &[u8]) -> Result<(), KeyFault> {
    let unused = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    let bits = (modulus.len() * 8).saturating_sub(unused);
    if !RSA_BITS.contains(&bits) {
        return Err(KeyFault::RsaSize { bits });
    }
    // An even modulus has 2 as a factor. With an exponent of 1 a message is its own signature; the
    // library refuses exponents of more than 32 bits.
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    if !is_odd(modulus) || !is_odd(exponent) || exponent == [1] || exponent.len() > 4 {
        return Err(KeyFault::RsaNumbers);
    }
    if has_roca_fingerprint(modulus) {
        return Err(KeyFault::Roca);
    }
    Ok(())
}

/// Checks that a key for ES256 is a point on P-256.
pub(super) fn check_p256(point: &[u8]) -> Result<(), KeyFault> {
    check_point(&ECDSA_P256_SHA256_FIXED, point)
}

/// Checks that a key for ES384 is a point on P-384.
pub(super) fn check_p384(point: &[u8]) -> Result<(), KeyFault> {
    check_point(&ECDSA_P384_SHA384_FIXED, point)
}

/// Checks that a key for `EdDSA` is a point on Ed25519, and not one of small order.
pub(super) fn check_ed25519(point: &[u8]) -> Result<(), KeyFault> {
    let (low, high) = point.split_first_chunk::<16>().ok_or(KeyFault::NotSuchAKey)?;
    let high = <[u8; 16]>::try_from(high).map_err(|_| KeyFault::NotSuchAKey)?;
    let halves = (u128::from_le_bytes(*low), u128::from_le_bytes(high) & (u128::MAX >> 1));
    if SMALL_ORDER_POINTS.contains(&halves) {
        return Err(KeyFault::SmallOrder);
    }
    check_point(&ED25519, point)
}

fn check_point(
    algorithm: &'static dyn VerificationAlgorithm,
    point: &[u8],
) -> Result<(), KeyFault> {
    ParsedPublicKey::new(algorithm, point).map(|_| ()).map_err(|_| KeyFault::NotSuchAKey)
}

/// Whether the modulus looks like those of the chips of CVE-2017-15361, whose keys can be factored:
/// modulo every small prime it is a power of 65537. One sound key in 2^27 looks like that too.
fn has_roca_fingerprint(modulus: &[u8]) -> bool {
    ROCA_PRIMES.into_iter().all(|prime| {
        let residue =
            modulus.iter().fold(0, |residue, byte| (residue * 256 + u32::from(*byte)) % prime);
        let powers = std::iter::successors(Some(1), |power| Some(power * 65537 % prime));
        powers.take(prime as usize).any(|power| power == residue)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An odd number of `bits` bits that is no power of 65537 modulo 11.
    fn modulus(bits: usize) -> Vec<u8> {
        let mut modulus = vec![0; bits.div_ceil(8)];
        modulus[0] = 1 << ((bits - 1) % 8);
        *modulus.last_mut().unwrap() |= 1;
        modulus
    }

    #[test]
    fn rsa_keys_outside_of_the_safe_sizes_are_refused() {
        for bits in [512, 1024, 2047, 8193, 16384] {
            assert_eq!(check_rsa(&modulus(bits), &[3]), Err(KeyFault::RsaSize { bits }));
        }
        for bits in [2048, 3072, 4096, 8192] {
            assert_eq!(check_rsa(&modulus(bits), &[1, 0, 1]), Ok(()), "{bits}");
        }
        assert_eq!(check_rsa(&[], &[]), Err(KeyFault::RsaSize { bits: 0 }));
    }

    #[test]
    fn rsa_exponents_that_sign_nothing_are_refused() {
        for exponent in [&[][..], &[1], &[2], &[4], &[1, 0], &[1, 0, 0, 0, 1]] {
            let checked = check_rsa(&modulus(2048), exponent);
            assert_eq!(checked, Err(KeyFault::RsaNumbers), "{exponent:?}");
        }
        let mut even = modulus(2048);
        *even.last_mut().unwrap() = 2;
        assert_eq!(check_rsa(&even, &[3]), Err(KeyFault::RsaNumbers));
    }

    #[test]
    fn moduli_of_the_roca_chips_are_refused() {
        // 65537^128 as a number: a power of 65537 modulo every prime.
        let mut power = vec![1_u8];
        for _ in 0..128 {
            let mut next = power.clone();
            next.extend([0, 0]);
            let offset = next.len() - power.len();
            let mut carry = 0;
            for (digit, added) in next[offset..].iter_mut().zip(&power).rev() {
                let sum = u16::from(*digit) + u16::from(*added) + carry;
                *digit = sum.to_le_bytes()[0];
                carry = sum >> 8;
            }
            for digit in next[..offset].iter_mut().rev() {
                let sum = u16::from(*digit) + carry;
                *digit = sum.to_le_bytes()[0];
                carry = sum >> 8;
            }
            power = next;
        }
        assert_eq!(check_rsa(&power, &[3]), Err(KeyFault::Roca));
    }

    #[test]
    fn ed25519_points_of_small_order_are_refused() {
        for (low, high) in SMALL_ORDER_POINTS {
            for sign in [0, 1 << 127] {
                let point = [low.to_le_bytes(), (high | sign).to_le_bytes()].concat();
                assert_eq!(check_ed25519(&point), Err(KeyFault::SmallOrder), "{point:?}");
            }
        }
        assert_eq!(check_ed25519(&[0; 31]), Err(KeyFault::NotSuchAKey));
        assert_eq!(check_ed25519(&[9; 33]), Err(KeyFault::NotSuchAKey));
    }

    #[test]
    fn points_off_the_curve_are_refused() {
        let mut point = vec![7; 65];
        point[0] = 4;
        assert_eq!(check_p256(&point), Err(KeyFault::NotSuchAKey));
        assert_eq!(check_p256(&[0]), Err(KeyFault::NotSuchAKey));
        point.resize(97, 7);
        assert_eq!(check_p384(&point), Err(KeyFault::NotSuchAKey));
    }
}
