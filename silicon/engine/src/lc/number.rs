//! AWS-LC's big numbers, owned and wiped.

use super::error::{check, failed};
use super::{Error, Secret};
use aws_lc_sys::{
    BIGNUM, BN_CTX, BN_CTX_free, BN_CTX_new, BN_bin2bn, BN_bn2bin_padded, BN_clear_free, BN_new,
    BN_num_bytes,
};

/// A number.
pub(super) struct Number(pub(super) *mut BIGNUM);

// SAFETY: the number is owned and has no thread affinity.
unsafe impl Send for Number {}

impl Number {
    pub(super) fn zero() -> Result<Self, Error> {
        // SAFETY: a new number or null.
        Self::owned(unsafe { BN_new() })
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        // SAFETY: readable for the length; a new number or null.
        Self::owned(unsafe { BN_bin2bn(bytes.as_ptr(), bytes.len(), std::ptr::null_mut()) })
    }

    fn owned(number: *mut BIGNUM) -> Result<Self, Error> {
        if number.is_null() {
            return failed(Error::Internal);
        }
        Ok(Self(number))
    }

    /// Big-endian, in so many bytes.
    pub(super) fn to_secret(&self, length: usize) -> Result<Secret, Error> {
        // SAFETY: an owned, valid number.
        unsafe { secret(self.0, length) }
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { BN_clear_free(self.0) };
    }
}

/// Scratch space of some operations.
pub(super) struct Scratch(pub(super) *mut BN_CTX);

impl Scratch {
    pub(super) fn new() -> Result<Self, Error> {
        // SAFETY: a new context or null.
        let context = unsafe { BN_CTX_new() };
        if context.is_null() {
            return failed(Error::Internal);
        }
        Ok(Self(context))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: owned, freed once; AWS-LC wipes what it frees.
        unsafe { BN_CTX_free(self.0) };
    }
}

/// A number in so many bytes, big-endian.
///
/// # Safety
/// The number must be null or valid.
pub(super) unsafe fn secret(number: *const BIGNUM, length: usize) -> Result<Secret, Error> {
    if number.is_null() {
        return Err(Error::Key);
    }
    let mut out = Secret::zeroed(length);
    // SAFETY: the number is valid, as the caller promises; writable for the length.
    let done = unsafe { BN_bn2bin_padded(out.expose_mut().as_mut_ptr(), length, number) };
    check(done, Error::Internal)?;
    Ok(out)
}

/// A public number in as few bytes as it needs, big-endian.
///
/// # Safety
/// The number must be null or valid.
pub(super) unsafe fn public(number: *const BIGNUM) -> Result<Vec<u8>, Error> {
    if number.is_null() {
        return Err(Error::Key);
    }
    // SAFETY: the number is valid, as the caller promises.
    let length = unsafe { BN_num_bytes(number) };
    let length = usize::try_from(length).map_err(|_| Error::Internal)?;
    // SAFETY: as above.
    Ok(unsafe { secret(number, length) }?.expose().to_vec())
}
