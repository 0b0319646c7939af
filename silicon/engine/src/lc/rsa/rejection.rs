//! Implicit rejection for PKCS #1 v1.5 decryption (draft-irtf-cfrg-rsa-guidance, sections 7 and 8;
//! the same messages as OpenSSL 3.2).
//!
//! A ciphertext whose padding is wrong decrypts to a message that a pseudo-random function of the
//! private key and the ciphertext makes, of a length made alike. Whoever can send ciphertexts but
//! not read the messages learns nothing about the padding, neither from an error nor from time: no
//! branch and no address here depends on the decrypted bytes before the message's length is chosen.

use crate::lc::digest::{Hash, digest};
use crate::lc::hmac::{HmacKey, secret_mac};
use crate::lc::{Error, Input, Secret};

/// Candidates for the length of the made message; with so many, one fits but for 2^-128.
const CANDIDATES: usize = 128;
/// Header and least padding: 00 02 and eight bytes.
const LEAST: usize = 10;

/// The key of rejection: SHA-256 of the private exponent in the modulus's length.
pub(super) fn key(exponent: &Secret) -> Result<Secret, Error> {
    let mut value = digest(Hash::Sha256, Input::new(exponent.expose()))?;
    let key = Secret::copy(&value);
    value.wipe();
    Ok(key)
}

/// The message in a decrypted block as long as the ciphertext, or the made one.
pub(super) fn unpad(key: &Secret, ciphertext: &[u8], encoded: &Secret) -> Result<Secret, Error> {
    let length = encoded.len();
    let derivation = secret_mac(key.expose(), Hash::Sha256, &[ciphertext])?;
    let derivation = HmacKey::new(Hash::Sha256, derivation.expose())?;
    let made = expand(&derivation, b"message", length)?;
    let made_length = choose_length(&derivation, length)?;

    let encoded = encoded.expose();
    let (first, second) = match encoded {
        [first, second, ..] if length > LEAST + 1 => (*first, *second),
        _ => return Err(Error::Size),
    };
    let mut good = is_zero(usize::from(first)) & is_zero(usize::from(second) ^ 2);
    let (mut found, mut separator) = (0usize, 0usize);
    for (index, byte) in encoded.iter().enumerate().skip(2) {
        let zero = is_zero(usize::from(*byte));
        separator = select(!found & zero, index, separator);
        found |= zero;
    }
    // Without a separator it stays 0, which fails here too.
    good &= !is_less(separator, LEAST);
    let start = select(good, separator + 1, length - made_length);

    // From here on the length is the caller's to know; which of the two it is stays hidden.
    let mut message = Secret::zeroed(length - start.min(length));
    let sources = encoded.iter().zip(made.expose()).skip(start);
    for (place, (real, made)) in message.expose_mut().iter_mut().zip(sources) {
        *place = select(good, usize::from(*real), usize::from(*made)) as u8;
    }
    Ok(message)
}

/// The last candidate that leaves room for header, padding and separator.
fn choose_length(derivation: &HmacKey, length: usize) -> Result<usize, Error> {
    let limit = length - LEAST.min(length);
    let mask = limit.next_power_of_two().wrapping_sub(1) | limit;
    let candidates = expand(derivation, b"length", 2 * CANDIDATES)?;
    let mut chosen = 0;
    for pair in candidates.expose().as_chunks::<2>().0 {
        let candidate = usize::from(u16::from_be_bytes(*pair)) & mask;
        chosen = select(is_less(candidate, limit), candidate, chosen);
    }
    Ok(chosen)
}

/// The pseudo-random function: HMAC-SHA-256 of counter (be16), label and length in bits (be16).
fn expand(derivation: &HmacKey, label: &[u8], length: usize) -> Result<Secret, Error> {
    let bits = u16::try_from(length * 8).map_err(|_| Error::Size)?;
    let mut out = Secret::zeroed(length);
    for (counter, piece) in (0u16..).zip(out.expose_mut().chunks_mut(32)) {
        let mut block = derivation.mac_of(&[&counter.to_be_bytes(), label, &bits.to_be_bytes()])?;
        for (place, byte) in piece.iter_mut().zip(block.iter()) {
            *place = *byte;
        }
        block.wipe();
    }
    Ok(out)
}

/// All ones where the value is zero, else zero.
fn is_zero(value: usize) -> usize {
    let value = std::hint::black_box(value);
    mask(!value & value.wrapping_sub(1))
}

/// All ones where left < right, for values below half the range.
fn is_less(left: usize, right: usize) -> usize {
    mask(std::hint::black_box(left).wrapping_sub(right))
}

/// The highest bit in every place.
fn mask(value: usize) -> usize {
    std::hint::black_box((value >> (usize::BITS - 1)).wrapping_neg())
}

fn select(mask: usize, yes: usize, no: usize) -> usize {
    (std::hint::black_box(mask) & yes) | (!std::hint::black_box(mask) & no)
}
