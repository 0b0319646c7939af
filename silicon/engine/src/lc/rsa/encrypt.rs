//! RSA encryption: OAEP, PKCS #1 v1.5 (decryption with implicit rejection), and the raw operation.

use super::sign::left_padded;
use super::{PrivateKey, PublicKey, rejection};
use crate::lc::digest::Hash;
use crate::lc::error::{check, failed};
use crate::lc::{Error, Secret};
use aws_lc_sys::{
    EVP_PKEY, EVP_PKEY_CTX, EVP_PKEY_CTX_free, EVP_PKEY_CTX_new, EVP_PKEY_CTX_set_rsa_mgf1_md,
    EVP_PKEY_CTX_set_rsa_oaep_md, EVP_PKEY_CTX_set_rsa_padding, EVP_PKEY_CTX_set0_rsa_oaep_label,
    EVP_PKEY_decrypt, EVP_PKEY_decrypt_init, EVP_PKEY_encrypt, EVP_PKEY_encrypt_init, OPENSSL_free,
    OPENSSL_memdup, RSA_NO_PADDING, RSA_PKCS1_OAEP_PADDING, RSA_PKCS1_PADDING, RSA_decrypt,
    RSA_encrypt,
};

/// Bytes that the padding of PKCS #1 v1.5 takes at least.
const OVERHEAD: usize = 11;

/// The parameters of OAEP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oaep<'a> {
    /// The hash of the label.
    pub hash: Hash,
    /// The hash of the mask generation.
    pub mask: Hash,
    /// The label.
    pub label: &'a [u8],
}

impl Oaep<'_> {
    /// Bytes of the longest message under a modulus of so many bytes.
    pub fn longest(&self, modulus: usize) -> Result<usize, Error> {
        modulus
            .checked_sub(2 * self.hash.bytes() + 2)
            .ok_or(Error::Size)
    }

    fn context(
        &self,
        key: *mut EVP_PKEY,
        init: unsafe extern "C" fn(*mut EVP_PKEY_CTX) -> i32,
    ) -> Result<Context, Error> {
        // SAFETY: the key is valid; the label is copied, and owned by the context once it is set.
        unsafe {
            let context = Context(EVP_PKEY_CTX_new(key, std::ptr::null_mut()));
            check(i32::from(!context.0.is_null()), Error::Internal)?;
            check(init(context.0), Error::Internal)?;
            check(
                EVP_PKEY_CTX_set_rsa_padding(context.0, RSA_PKCS1_OAEP_PADDING),
                Error::Internal,
            )?;
            check(
                EVP_PKEY_CTX_set_rsa_oaep_md(context.0, self.hash.md()),
                Error::Internal,
            )?;
            check(
                EVP_PKEY_CTX_set_rsa_mgf1_md(context.0, self.mask.md()),
                Error::Internal,
            )?;
            if !self.label.is_empty() {
                let label = OPENSSL_memdup(self.label.as_ptr().cast(), self.label.len());
                check(i32::from(!label.is_null()), Error::Internal)?;
                if EVP_PKEY_CTX_set0_rsa_oaep_label(context.0, label.cast(), self.label.len()) != 1
                {
                    OPENSSL_free(label);
                    return failed(Error::Internal);
                }
            }
            Ok(context)
        }
    }
}

struct Context(*mut EVP_PKEY_CTX);

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: owned (or null), freed once.
        unsafe { EVP_PKEY_CTX_free(self.0) };
    }
}

impl PublicKey {
    /// OAEP.
    pub fn encrypt_oaep(&self, oaep: &Oaep<'_>, message: &[u8]) -> Result<Vec<u8>, Error> {
        if message.len() > oaep.longest(self.bytes())? {
            return Err(Error::DataLength);
        }
        let context = oaep.context(self.key.pkey, EVP_PKEY_encrypt_init)?;
        let mut out = vec![0; self.bytes()];
        let mut length = out.len();
        // SAFETY: message and buffer come with their lengths.
        let done = unsafe {
            EVP_PKEY_encrypt(
                context.0,
                out.as_mut_ptr(),
                &mut length,
                message.as_ptr(),
                message.len(),
            )
        };
        check(done, Error::Internal)?;
        Ok(out)
    }

    /// PKCS #1 v1.5.
    pub fn encrypt_pkcs1(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        if message.len() > self.bytes() - OVERHEAD {
            return Err(Error::DataLength);
        }
        self.encrypt(message, RSA_PKCS1_PADDING)
    }

    /// The public operation on a number: at most as long as the modulus, and below it.
    pub fn encrypt_raw(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.encrypt(left_padded(message, self.bytes())?.expose(), RSA_NO_PADDING)
    }

    fn encrypt(&self, message: &[u8], padding: i32) -> Result<Vec<u8>, Error> {
        let mut out = vec![0; self.bytes()];
        let mut length = 0;
        // SAFETY: message and buffer come with their lengths.
        let done = unsafe {
            RSA_encrypt(
                self.key.rsa,
                &mut length,
                out.as_mut_ptr(),
                out.len(),
                message.as_ptr(),
                message.len(),
                padding,
            )
        };
        check(done, Error::DataLength)?;
        Ok(out)
    }
}

impl PrivateKey {
    /// OAEP. A wrong label, hash or padding is `Error::Decrypt`.
    pub fn decrypt_oaep(&self, oaep: &Oaep<'_>, ciphertext: &[u8]) -> Result<Secret, Error> {
        oaep.longest(self.bytes())?;
        self.whole(ciphertext)?;
        let context = oaep.context(self.key.pkey, EVP_PKEY_decrypt_init)?;
        let mut out = Secret::zeroed(self.bytes());
        let mut length = out.len();
        // SAFETY: ciphertext and buffer come with their lengths.
        let done = unsafe {
            EVP_PKEY_decrypt(
                context.0,
                out.expose_mut().as_mut_ptr(),
                &mut length,
                ciphertext.as_ptr(),
                ciphertext.len(),
            )
        };
        check(done, Error::Decrypt)?;
        out.expose()
            .get(..length)
            .map(Secret::copy)
            .ok_or(Error::Internal)
    }

    /// PKCS #1 v1.5 with implicit rejection: wrong padding gives a message too, one that only this
    /// key could predict. Only a ciphertext that is wrong for everybody to see (of another length
    /// than the modulus, or not below it) is an error.
    pub fn decrypt_pkcs1(&self, ciphertext: &[u8]) -> Result<Secret, Error> {
        let encoded = self.decrypt_raw(ciphertext)?;
        rejection::unpad(&self.rejection, ciphertext, &encoded)
    }

    /// The private operation on a ciphertext as long as the modulus: as long again.
    pub fn decrypt_raw(&self, ciphertext: &[u8]) -> Result<Secret, Error> {
        self.whole(ciphertext)?;
        let mut out = Secret::zeroed(self.bytes());
        let mut length = 0;
        // SAFETY: ciphertext and buffer come with their lengths.
        let done = unsafe {
            RSA_decrypt(
                self.key.rsa,
                &mut length,
                out.expose_mut().as_mut_ptr(),
                self.bytes(),
                ciphertext.as_ptr(),
                ciphertext.len(),
                RSA_NO_PADDING,
            )
        };
        check(done, Error::Decrypt)?;
        Ok(out)
    }

    fn whole(&self, ciphertext: &[u8]) -> Result<(), Error> {
        if ciphertext.len() == self.bytes() {
            Ok(())
        } else {
            Err(Error::DataLength)
        }
    }
}
