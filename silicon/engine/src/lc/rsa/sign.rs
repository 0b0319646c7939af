//! RSA signatures: PKCS #1 v1.5 over a digest or a ready DigestInfo, PSS, and the raw operation.

use super::{PrivateKey, PublicKey};
use crate::lc::digest::Hash;
use crate::lc::error::{check, failed};
use crate::lc::secret::constant_time_equal;
use crate::lc::{Error, Secret};
use aws_lc_sys::{
    RSA_NO_PADDING, RSA_PKCS1_PADDING, RSA_sign, RSA_sign_pss_mgf1, RSA_sign_raw, RSA_verify,
    RSA_verify_pss_mgf1, RSA_verify_raw,
};

/// Bytes that the padding of PKCS #1 v1.5 takes at least.
const OVERHEAD: usize = 11;

/// The parameters of PSS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pss {
    /// The hash of the message.
    pub hash: Hash,
    /// The hash of the mask generation.
    pub mask: Hash,
    /// Bytes of salt.
    pub salt: usize,
}

impl Pss {
    /// The salt as AWS-LC takes it, if hash and salt fit a modulus of so many bits.
    fn salt(&self, digest: &[u8], bits: usize) -> Result<i32, Error> {
        if digest.len() != self.hash.bytes() {
            return Err(Error::DataLength);
        }
        let encoded = bits.saturating_sub(1).div_ceil(8);
        if self.salt.saturating_add(self.hash.bytes() + 2) > encoded {
            return Err(Error::Parameter);
        }
        i32::try_from(self.salt).map_err(|_| Error::Parameter)
    }
}

impl PrivateKey {
    /// The place for a signature in the caller's buffer.
    fn place<'a>(&self, out: &'a mut [u8]) -> Result<&'a mut [u8], Error> {
        let length = self.bytes();
        out.get_mut(..length).ok_or(Error::TooSmall(length))
    }

    /// PKCS #1 v1.5 over a digest. Returns the signature's length.
    pub fn sign_pkcs1(&self, hash: Hash, digest: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        if digest.len() != hash.bytes() {
            return Err(Error::DataLength);
        }
        let place = self.place(out)?;
        let mut length = 0;
        // SAFETY: the digest comes with its length; the place has the modulus's length.
        let done = unsafe {
            RSA_sign(
                hash.nid(),
                digest.as_ptr(),
                digest.len(),
                place.as_mut_ptr(),
                &mut length,
                self.key.rsa,
            )
        };
        check(done, Error::Internal)?;
        Ok(self.bytes())
    }

    /// PKCS #1 v1.5 padding around the caller's own bytes, usually a DigestInfo.
    pub fn sign_padded(&self, data: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        if data.len() > self.bytes() - OVERHEAD {
            return Err(Error::DataLength);
        }
        self.raw(data, RSA_PKCS1_PADDING, out)
    }

    /// PSS over a digest.
    pub fn sign_pss(&self, pss: &Pss, digest: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let salt = pss.salt(digest, self.bits())?;
        let place = self.place(out)?;
        let mut length = 0;
        // SAFETY: the digest comes with its length; the place has the modulus's length.
        let done = unsafe {
            RSA_sign_pss_mgf1(
                self.key.rsa,
                &mut length,
                place.as_mut_ptr(),
                place.len(),
                digest.as_ptr(),
                digest.len(),
                pss.hash.md(),
                pss.mask.md(),
                salt,
            )
        };
        check(done, Error::Internal)?;
        Ok(length)
    }

    /// The private operation on a number: at most as long as the modulus, and below it.
    pub fn sign_raw(&self, data: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let padded = left_padded(data, self.bytes())?;
        self.raw(padded.expose(), RSA_NO_PADDING, out)
    }

    fn raw(&self, data: &[u8], padding: i32, out: &mut [u8]) -> Result<usize, Error> {
        let place = self.place(out)?;
        let mut length = 0;
        // SAFETY: the data comes with its length; the place has the modulus's length.
        let done = unsafe {
            RSA_sign_raw(
                self.key.rsa,
                &mut length,
                place.as_mut_ptr(),
                place.len(),
                data.as_ptr(),
                data.len(),
                padding,
            )
        };
        check(done, Error::DataLength)?;
        Ok(length)
    }
}

/// The number in the modulus's length.
pub(super) fn left_padded(data: &[u8], length: usize) -> Result<Secret, Error> {
    let skip = length.checked_sub(data.len()).ok_or(Error::DataLength)?;
    let mut padded = Secret::zeroed(length);
    padded
        .expose_mut()
        .get_mut(skip..)
        .ok_or(Error::DataLength)?
        .copy_from_slice(data);
    Ok(padded)
}

impl PublicKey {
    /// Verifies PKCS #1 v1.5 over a digest.
    pub fn verify_pkcs1(&self, hash: Hash, digest: &[u8], signature: &[u8]) -> Result<(), Error> {
        if digest.len() != hash.bytes() {
            return Err(Error::DataLength);
        }
        // SAFETY: both come with their lengths.
        let done = unsafe {
            RSA_verify(
                hash.nid(),
                digest.as_ptr(),
                digest.len(),
                signature.as_ptr(),
                signature.len(),
                self.key.rsa,
            )
        };
        check(done, Error::Signature)
    }

    /// Verifies PKCS #1 v1.5 padding around the caller's own bytes.
    pub fn verify_padded(&self, data: &[u8], signature: &[u8]) -> Result<(), Error> {
        if data.len() > self.bytes() - OVERHEAD {
            return Err(Error::DataLength);
        }
        let recovered = self.recover(signature, RSA_PKCS1_PADDING)?;
        if constant_time_equal(&recovered, data) {
            Ok(())
        } else {
            Err(Error::Signature)
        }
    }

    /// The bytes inside PKCS #1 v1.5 padding: verification with recovery.
    pub fn recover_padded(&self, signature: &[u8]) -> Result<Vec<u8>, Error> {
        self.recover(signature, RSA_PKCS1_PADDING)
    }

    /// Verifies PSS over a digest, with exactly this salt length.
    pub fn verify_pss(&self, pss: &Pss, digest: &[u8], signature: &[u8]) -> Result<(), Error> {
        let salt = pss.salt(digest, self.bits())?;
        // SAFETY: both come with their lengths.
        let done = unsafe {
            RSA_verify_pss_mgf1(
                self.key.rsa,
                digest.as_ptr(),
                digest.len(),
                pss.hash.md(),
                pss.mask.md(),
                salt,
                signature.as_ptr(),
                signature.len(),
            )
        };
        check(done, Error::Signature)
    }

    /// Verifies the raw operation over a number.
    pub fn verify_raw(&self, data: &[u8], signature: &[u8]) -> Result<(), Error> {
        let padded = left_padded(data, self.bytes())?;
        let recovered = self.recover_raw(signature)?;
        if constant_time_equal(&recovered, padded.expose()) {
            Ok(())
        } else {
            Err(Error::Signature)
        }
    }

    /// The number that a raw signature holds, as long as the modulus.
    pub fn recover_raw(&self, signature: &[u8]) -> Result<Vec<u8>, Error> {
        self.recover(signature, RSA_NO_PADDING)
    }

    fn recover(&self, signature: &[u8], padding: i32) -> Result<Vec<u8>, Error> {
        if signature.len() != self.bytes() {
            return failed(Error::Signature);
        }
        let mut out = vec![0; self.bytes()];
        let mut length = 0;
        // SAFETY: the signature comes with its length; the buffer has the modulus's.
        let done = unsafe {
            RSA_verify_raw(
                self.key.rsa,
                &mut length,
                out.as_mut_ptr(),
                out.len(),
                signature.as_ptr(),
                signature.len(),
                padding,
            )
        };
        check(done, Error::Signature)?;
        out.truncate(length);
        Ok(out)
    }
}
