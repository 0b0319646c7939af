//! Owned handles of AWS-LC's generic keys and contexts, for the post-quantum algorithms.

use super::error::failed;
use super::{Error, Secret};
use aws_lc_sys::{
    EVP_MD_CTX, EVP_MD_CTX_free, EVP_MD_CTX_new, EVP_PKEY, EVP_PKEY_CTX, EVP_PKEY_CTX_free,
    EVP_PKEY_CTX_new, EVP_PKEY_free, EVP_PKEY_get_raw_private_key, EVP_PKEY_get_raw_public_key,
};

/// An owned EVP_PKEY.
#[derive(Debug)]
pub struct Pkey(*mut EVP_PKEY);

// SAFETY: owned, and not changed after its making.
unsafe impl Send for Pkey {}
// SAFETY: AWS-LC allows concurrent const use of an EVP_PKEY; its count of references is atomic.
unsafe impl Sync for Pkey {}

impl Pkey {
    /// Takes a new key over; null is an error.
    pub fn own(key: *mut EVP_PKEY) -> Result<Self, Error> {
        if key.is_null() {
            failed(Error::Key)
        } else {
            Ok(Self(key))
        }
    }

    pub fn as_ptr(&self) -> *mut EVP_PKEY {
        self.0
    }

    /// The raw public key, `length` bytes.
    pub fn raw_public(&self, length: usize) -> Result<Vec<u8>, Error> {
        let mut out = vec![0; length];
        let mut written = length;
        // SAFETY: the buffer is writable for the length that goes in.
        let done = unsafe { EVP_PKEY_get_raw_public_key(self.0, out.as_mut_ptr(), &mut written) };
        if done == 1 && written == length {
            Ok(out)
        } else {
            failed(Error::Internal)
        }
    }

    /// The raw private key, `length` bytes.
    pub fn raw_private(&self, length: usize) -> Result<Secret, Error> {
        let mut out = Secret::zeroed(length);
        let mut written = length;
        // SAFETY: the buffer is writable for the length that goes in.
        let done = unsafe {
            EVP_PKEY_get_raw_private_key(self.0, out.expose_mut().as_mut_ptr(), &mut written)
        };
        if done == 1 && written == length {
            Ok(out)
        } else {
            failed(Error::Internal)
        }
    }

    /// A context for operations with this key.
    pub fn context(&self) -> Result<PkeyContext, Error> {
        // SAFETY: the context takes its own reference to the key.
        PkeyContext::own(unsafe { EVP_PKEY_CTX_new(self.0, std::ptr::null_mut()) })
    }
}

impl Drop for Pkey {
    fn drop(&mut self) {
        // SAFETY: owned, freed once; AWS-LC wipes what is secret.
        unsafe { EVP_PKEY_free(self.0) };
    }
}

/// An owned EVP_PKEY_CTX.
pub struct PkeyContext(*mut EVP_PKEY_CTX);

impl PkeyContext {
    /// Takes a new context over; null is an error.
    pub fn own(context: *mut EVP_PKEY_CTX) -> Result<Self, Error> {
        if context.is_null() {
            failed(Error::Internal)
        } else {
            Ok(Self(context))
        }
    }

    pub fn as_ptr(&self) -> *mut EVP_PKEY_CTX {
        self.0
    }
}

impl Drop for PkeyContext {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { EVP_PKEY_CTX_free(self.0) };
    }
}

/// An owned EVP_MD_CTX.
pub(super) struct MdContext(*mut EVP_MD_CTX);

impl MdContext {
    pub fn new() -> Result<Self, Error> {
        // SAFETY: a new context, owned here.
        let context = unsafe { EVP_MD_CTX_new() };
        if context.is_null() {
            failed(Error::Internal)
        } else {
            Ok(Self(context))
        }
    }

    pub fn as_ptr(&self) -> *mut EVP_MD_CTX {
        self.0
    }
}

impl Drop for MdContext {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { EVP_MD_CTX_free(self.0) };
    }
}
