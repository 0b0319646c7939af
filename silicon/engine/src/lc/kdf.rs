//! Key derivation: HKDF, the SP 800-108 counter mode, the TLS 1.2 PRF, PBKDF2, and the derivations
//! that follow a key agreement (ANSI X9.63, SP 800-56C one-step).

use super::cmac::CmacKey;
use super::digest::{Digest, Hash};
use super::error::check;
use super::hmac::HmacKey;
use super::{Error, Input, Secret};
use zeroize::Zeroizing;

/// HKDF-Extract (RFC 5869, section 2.2): a pseudo-random key as long as the digest.
pub fn hkdf_extract(hash: Hash, salt: &[u8], secret: &[u8]) -> Result<Secret, Error> {
    let mut out = Secret::zeroed(hash.bytes());
    let mut length = 0;
    // SAFETY: every pointer comes with its length; the output holds the digest.
    let done = unsafe {
        aws_lc_sys::HKDF_extract(
            out.expose_mut().as_mut_ptr(),
            &mut length,
            hash.md(),
            secret.as_ptr(),
            secret.len(),
            salt.as_ptr(),
            salt.len(),
        )
    };
    check(i32::from(done == 1 && length == out.len()), Error::Internal)?;
    Ok(out)
}

/// HKDF-Expand (RFC 5869, section 2.3): 1 to 255 times the digest's length.
pub fn hkdf_expand(hash: Hash, key: &[u8], info: &[u8], length: usize) -> Result<Secret, Error> {
    if !(1..=255 * hash.bytes()).contains(&length) {
        return Err(Error::Size);
    }
    let mut out = Secret::zeroed(length);
    // SAFETY: every pointer comes with its length.
    let done = unsafe {
        aws_lc_sys::HKDF_expand(
            out.expose_mut().as_mut_ptr(),
            length,
            hash.md(),
            key.as_ptr(),
            key.len(),
            info.as_ptr(),
            info.len(),
        )
    };
    check(done, Error::Internal)?;
    Ok(out)
}

/// HKDF: extract, then expand.
pub fn hkdf(
    hash: Hash,
    salt: &[u8],
    secret: &[u8],
    info: &[u8],
    length: usize,
) -> Result<Secret, Error> {
    let key = hkdf_extract(hash, salt, secret)?;
    hkdf_expand(hash, key.expose(), info, length)
}

/// The pseudo-random function of an SP 800-108 derivation, with its key.
#[derive(Debug)]
pub enum Prf {
    /// HMAC.
    Hmac(HmacKey),
    /// CMAC with AES.
    Cmac(CmacKey),
}

impl Prf {
    /// HMAC with this key.
    pub fn hmac(hash: Hash, key: &[u8]) -> Result<Self, Error> {
        HmacKey::new(hash, key).map(Self::Hmac)
    }

    /// CMAC with this key of 16, 24 or 32 bytes.
    pub fn cmac(key: &[u8]) -> Result<Self, Error> {
        CmacKey::new(key).map(Self::Cmac)
    }

    /// Bytes that one call gives.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Hmac(key) => key.hash().bytes(),
            Self::Cmac(_) => super::aes::BLOCK,
        }
    }

    fn call(&self, input: &[u8]) -> Result<Secret, Error> {
        match self {
            Self::Hmac(key) => {
                let mut value = key.mac(Input::new(input))?;
                let secret = Secret::copy(&value);
                value.wipe();
                Ok(secret)
            }
            Self::Cmac(key) => {
                let mut value = key.mac(Input::new(input))?;
                let secret = Secret::copy(&value);
                zeroize::Zeroize::zeroize(&mut value);
                Ok(secret)
            }
        }
    }
}

/// A field of the input of each call, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// The counter, from 1.
    Counter {
        /// Bytes, 1 to 4.
        width: usize,
        /// Byte order.
        little_endian: bool,
    },
    /// A length in bits, as the caller counts it.
    Length {
        /// Bits of derived keys.
        bits: u64,
        /// Bytes, 1 to 8.
        width: usize,
        /// Byte order.
        little_endian: bool,
    },
    /// Fixed bytes: label, separator, context, or the value of another key.
    Bytes(&'a [u8]),
}

/// Appends a number in so many bytes, which must hold it.
fn append(out: &mut Vec<u8>, value: u64, width: usize, little_endian: bool) -> Result<(), Error> {
    let bytes = value.to_be_bytes();
    let (zeros, low) = bytes
        .split_at_checked(8usize.wrapping_sub(width))
        .ok_or(Error::Parameter)?;
    if low.is_empty() || zeros.iter().any(|byte| *byte != 0) {
        return Err(Error::Parameter);
    }
    if little_endian {
        out.extend(low.iter().rev());
    } else {
        out.extend(low);
    }
    Ok(())
}

/// SP 800-108 in counter mode, with fields in any order; exactly one is the counter.
pub fn kbkdf_counter(prf: &Prf, fields: &[Field<'_>], length: usize) -> Result<Secret, Error> {
    let mut counters = fields.iter().filter_map(|field| match field {
        Field::Counter { width, .. } => Some(*width),
        _ => None,
    });
    let (Some(width @ 1..=4), None) = (counters.next(), counters.next()) else {
        return Err(Error::Parameter);
    };
    let calls = length.div_ceil(prf.bytes()) as u64;
    if length == 0 || calls >= 1 << (8 * width) {
        return Err(Error::Size);
    }
    let mut out = Secret::zeroed(length);
    let fixed: usize = fields
        .iter()
        .map(|field| match field {
            Field::Bytes(bytes) => bytes.len(),
            _ => 8,
        })
        .sum();
    // Fixed bytes may be keys. With all its room from the start the buffer never moves, and is wiped.
    let mut input = Zeroizing::new(Vec::with_capacity(fixed));
    for (counter, piece) in (1u64..).zip(out.expose_mut().chunks_mut(prf.bytes())) {
        input.clear();
        for field in fields {
            match *field {
                Field::Counter {
                    width,
                    little_endian,
                } => append(&mut input, counter, width, little_endian)?,
                Field::Length {
                    bits,
                    width,
                    little_endian,
                } => append(&mut input, bits, width, little_endian)?,
                Field::Bytes(bytes) => input.extend_from_slice(bytes),
            }
        }
        fill(piece, prf.call(&input)?.expose());
    }
    Ok(out)
}

/// As many bytes as fit.
fn fill(place: &mut [u8], bytes: &[u8]) {
    for (place, byte) in place.iter_mut().zip(bytes) {
        *place = *byte;
    }
}

/// The PRF of TLS 1.2 (RFC 5246, section 5): P_hash over label and the seeds in a row.
pub fn tls12_prf(
    hash: Hash,
    secret: &[u8],
    label: &[u8],
    seeds: [&[u8]; 2],
    length: usize,
) -> Result<Secret, Error> {
    let [first, second] = seeds;
    let mut out = Secret::zeroed(length);
    // SAFETY: every pointer comes with its length.
    let done = unsafe {
        aws_lc_sys::CRYPTO_tls1_prf(
            hash.md(),
            out.expose_mut().as_mut_ptr(),
            length,
            secret.as_ptr(),
            secret.len(),
            label.as_ptr().cast(),
            label.len(),
            first.as_ptr(),
            first.len(),
            second.as_ptr(),
            second.len(),
        )
    };
    check(done, Error::Internal)?;
    Ok(out)
}

/// PBKDF2 (SP 800-132) with HMAC.
pub fn pbkdf2(
    hash: Hash,
    password: &[u8],
    salt: &[u8],
    iterations: u32,
    length: usize,
) -> Result<Secret, Error> {
    if iterations == 0 {
        return Err(Error::Parameter);
    }
    let mut out = Secret::zeroed(length);
    // SAFETY: every pointer comes with its length.
    let done = unsafe {
        aws_lc_sys::PKCS5_PBKDF2_HMAC(
            password.as_ptr().cast(),
            password.len(),
            salt.as_ptr(),
            salt.len(),
            iterations,
            hash.md(),
            length,
            out.expose_mut().as_mut_ptr(),
        )
    };
    check(done, Error::Internal)?;
    Ok(out)
}

/// The derivation of ANSI X9.63 (SEC 1, section 3.6.1): hash of secret, counter (be32) and shared
/// information.
pub fn x963(hash: Hash, secret: &[u8], shared: &[u8], length: usize) -> Result<Secret, Error> {
    concatenated(hash, length, &[secret], &[shared])
}

/// The one-step derivation with a hash (SP 800-56C, section 4.1, option 1): hash of counter (be32),
/// secret and fixed information.
pub fn one_step(hash: Hash, secret: &[u8], fixed: &[u8], length: usize) -> Result<Secret, Error> {
    concatenated(hash, length, &[], &[secret, fixed])
}

/// Digests of the pieces with a counter (be32) between them.
fn concatenated(
    hash: Hash,
    length: usize,
    before: &[&[u8]],
    after: &[&[u8]],
) -> Result<Secret, Error> {
    if length == 0 || length.div_ceil(hash.bytes()) > u32::MAX as usize {
        return Err(Error::Size);
    }
    let mut out = Secret::zeroed(length);
    for (counter, place) in (1u32..).zip(out.expose_mut().chunks_mut(hash.bytes())) {
        let mut state = Digest::new(hash)?;
        let counter = counter.to_be_bytes();
        for piece in before.iter().chain([&&counter[..]]).chain(after) {
            state.update(Input::new(piece))?;
        }
        let mut value = state.finish()?;
        fill(place, &value);
        value.wipe();
    }
    Ok(out)
}

/// SP 800-108 in counter mode with HMAC-SHA-384: i (be32) || label || 00 || context || L in bits
/// (be32), as the Azure Integrated HSM writes it.
pub fn kbkdf_sha384(
    key: &[u8],
    label: &[u8],
    context: &[u8],
    length: usize,
) -> Result<Secret, Error> {
    let bits = u32::try_from(length * 8).map_err(|_| Error::Size)?;
    let info = [label, &[0], context, &bits.to_be_bytes()].concat();
    let mut out = Secret::zeroed(length);
    // SAFETY: every pointer comes with its length.
    let done = unsafe {
        aws_lc_sys::KBKDF_ctr_hmac(
            out.expose_mut().as_mut_ptr(),
            length,
            aws_lc_sys::EVP_sha384(),
            key.as_ptr(),
            key.len(),
            info.as_ptr(),
            info.len(),
        )
    };
    check(done, Error::Internal)?;
    Ok(out)
}

/// PBKDF2 (SP 800-132) with HMAC-SHA-512.
pub fn pbkdf2_sha512(
    password: &[u8],
    salt: &[u8],
    iterations: u32,
    length: usize,
) -> Result<Secret, Error> {
    pbkdf2(Hash::Sha512, password, salt, iterations, length)
}

#[cfg(test)]
mod tests;
