//! AES-GCM (SP 800-38D).

use super::{Error, Secret};
use aws_lc_sys::{
    EVP_AEAD_CTX, EVP_AEAD_CTX_free, EVP_AEAD_CTX_new, EVP_AEAD_CTX_open_gather,
    EVP_AEAD_CTX_seal_scatter, EVP_aead_aes_128_gcm, EVP_aead_aes_192_gcm, EVP_aead_aes_256_gcm,
};

/// Bytes of the usual tag.
pub const TAG: usize = 16;

/// A key for AES-GCM with its schedule.
#[derive(Debug)]
pub struct AesGcm {
    context: *mut EVP_AEAD_CTX,
}

// SAFETY: the context is owned, and immutable after its making.
unsafe impl Send for AesGcm {}
// SAFETY: sealing and opening take the context as const; AWS-LC allows them at the same time.
unsafe impl Sync for AesGcm {}

impl AesGcm {
    /// A key of 16, 24 or 32 bytes.
    pub fn new(key: &[u8]) -> Result<Self, Error> {
        // SAFETY: these return static tables.
        let aead = unsafe {
            match key.len() {
                16 => EVP_aead_aes_128_gcm(),
                24 => EVP_aead_aes_192_gcm(),
                32 => EVP_aead_aes_256_gcm(),
                _ => return Err(Error::Size),
            }
        };
        // SAFETY: the key is readable for its length.
        let context = unsafe { EVP_AEAD_CTX_new(aead, key.as_ptr(), key.len(), TAG) };
        if context.is_null() {
            Err(Error::Internal)
        } else {
            Ok(Self { context })
        }
    }

    /// Ciphertext and tag.
    pub fn seal(
        &self,
        iv: &[u8],
        associated: &[u8],
        plain: &[u8],
    ) -> Result<(Vec<u8>, [u8; TAG]), Error> {
        let mut ciphertext = vec![0; plain.len()];
        let mut tag = [0; TAG];
        let mut tag_length = 0;
        // SAFETY: every pointer comes with its length.
        let done = unsafe {
            EVP_AEAD_CTX_seal_scatter(
                self.context,
                ciphertext.as_mut_ptr(),
                tag.as_mut_ptr(),
                &mut tag_length,
                TAG,
                iv.as_ptr(),
                iv.len(),
                plain.as_ptr(),
                plain.len(),
                std::ptr::null(),
                0,
                associated.as_ptr(),
                associated.len(),
            )
        };
        if done == 1 && tag_length == TAG {
            Ok((ciphertext, tag))
        } else {
            Err(Error::Internal)
        }
    }

    /// The plaintext, if the tag verifies.
    pub fn open(
        &self,
        iv: &[u8],
        associated: &[u8],
        ciphertext: &[u8],
        tag: &[u8],
    ) -> Result<Secret, Error> {
        let mut plain = Secret::zeroed(ciphertext.len());
        // SAFETY: every pointer comes with its length; the output is as long as the ciphertext.
        let done = unsafe {
            EVP_AEAD_CTX_open_gather(
                self.context,
                plain.expose_mut().as_mut_ptr(),
                iv.as_ptr(),
                iv.len(),
                ciphertext.as_ptr(),
                ciphertext.len(),
                tag.as_ptr(),
                tag.len(),
                associated.as_ptr(),
                associated.len(),
            )
        };
        if done == 1 {
            Ok(plain)
        } else {
            // SAFETY: clears this thread's error queue.
            unsafe { aws_lc_sys::ERR_clear_error() };
            Err(Error::Decrypt)
        }
    }
}

impl Drop for AesGcm {
    fn drop(&mut self) {
        // SAFETY: owned, freed once; AWS-LC wipes the schedule.
        unsafe { EVP_AEAD_CTX_free(self.context) };
    }
}
