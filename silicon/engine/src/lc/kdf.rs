//! Key derivation.

use super::{Error, Secret};

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
    if done == 1 {
        Ok(out)
    } else {
        Err(Error::Internal)
    }
}

/// PBKDF2 (SP 800-132) with HMAC-SHA-512.
pub fn pbkdf2_sha512(
    password: &[u8],
    salt: &[u8],
    iterations: u32,
    length: usize,
) -> Result<Secret, Error> {
    let mut out = Secret::zeroed(length);
    // SAFETY: every pointer comes with its length.
    let done = unsafe {
        aws_lc_sys::PKCS5_PBKDF2_HMAC(
            password.as_ptr().cast(),
            password.len(),
            salt.as_ptr(),
            salt.len(),
            iterations,
            aws_lc_sys::EVP_sha512(),
            length,
            out.expose_mut().as_mut_ptr(),
        )
    };
    if done == 1 {
        Ok(out)
    } else {
        Err(Error::Internal)
    }
}
