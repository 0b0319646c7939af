//! AES (FIPS 197) in ECB, CBC (with and without the padding of PKCS #7) and CTR (SP 800-38A).
//!
//! All of it may run on memory that others change: each input byte is read once. Output may stand
//! exactly where the input stands, or apart from it; where a stream's held-back bytes would shift
//! the two against each other, the input is copied first.

mod blocks;
mod ctr;

use std::borrow::Borrow;

use super::error::check;
use super::{Error, Input, Output, Secret};
use aws_lc_sys::{
    AES_KEY, AES_decrypt, AES_encrypt, AES_set_decrypt_key, AES_set_encrypt_key, EVP_CIPHER,
    EVP_CIPHER_CTX, EVP_CIPHER_CTX_copy, EVP_CIPHER_CTX_free, EVP_CIPHER_CTX_new,
    EVP_CipherInit_ex, EVP_aes_128_ecb, EVP_aes_192_ecb, EVP_aes_256_ecb,
};
use zeroize::Zeroize;

pub use blocks::Blocks;
pub use ctr::Ctr;

/// Bytes of a block.
pub const BLOCK: usize = 16;

/// A block.
pub type Block = [u8; BLOCK];

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Plaintext to ciphertext.
    Encrypt,
    /// Ciphertext to plaintext.
    Decrypt,
}

/// An expanded key, wiped when dropped.
pub(super) struct Schedule(Box<AES_KEY>);

impl Schedule {
    /// The schedule of a key of 16, 24 or 32 bytes.
    pub(super) fn new(key: &[u8], direction: Direction) -> Result<Self, Error> {
        let bits = match key.len() {
            16 => 128,
            24 => 192,
            32 => 256,
            _ => return Err(Error::Size),
        };
        let mut schedule = Self(Box::new(AES_KEY {
            rd_key: [0; 60],
            rounds: 0,
        }));
        // SAFETY: the key is readable for `bits`; the schedule is writable.
        let answer = unsafe {
            match direction {
                Direction::Encrypt => AES_set_encrypt_key(key.as_ptr(), bits, schedule.0.as_mut()),
                Direction::Decrypt => AES_set_decrypt_key(key.as_ptr(), bits, schedule.0.as_mut()),
            }
        };
        if answer == 0 {
            Ok(schedule)
        } else {
            Err(Error::Internal)
        }
    }

    /// Encrypts one block under an encryption schedule.
    pub(super) fn encrypt(&self, block: &mut Block) {
        // SAFETY: one block in place is allowed.
        unsafe { AES_encrypt(block.as_ptr(), block.as_mut_ptr(), self.0.as_ref()) };
    }

    /// Decrypts one block under a decryption schedule.
    pub(super) fn decrypt(&self, block: &mut Block) {
        // SAFETY: one block in place is allowed.
        unsafe { AES_decrypt(block.as_ptr(), block.as_mut_ptr(), self.0.as_ref()) };
    }
}

impl Drop for Schedule {
    fn drop(&mut self) {
        self.0.rd_key.zeroize();
    }
}

/// AWS-LC's cipher context, owned.
pub(super) struct Cipher(pub(super) *mut EVP_CIPHER_CTX);

// SAFETY: the context is owned and has no thread affinity.
unsafe impl Send for Cipher {}
// SAFETY: shared references only copy it, which AWS-LC takes as const.
unsafe impl Sync for Cipher {}

impl Cipher {
    pub(super) fn new(
        cipher: *const EVP_CIPHER,
        key: &[u8],
        direction: Direction,
    ) -> Result<Self, Error> {
        // SAFETY: a new context; the key has the cipher's length, as every caller checks.
        unsafe {
            let context = Self(EVP_CIPHER_CTX_new());
            check(i32::from(!context.0.is_null()), Error::Internal)?;
            let encrypt = i32::from(direction == Direction::Encrypt);
            check(
                EVP_CipherInit_ex(
                    context.0,
                    cipher,
                    std::ptr::null_mut(),
                    key.as_ptr(),
                    std::ptr::null(),
                    encrypt,
                ),
                Error::Key,
            )?;
            Ok(context)
        }
    }

    pub(super) fn duplicate(&self) -> Result<Self, Error> {
        // SAFETY: a new context; the source is taken as const.
        unsafe {
            let context = Self(EVP_CIPHER_CTX_new());
            check(i32::from(!context.0.is_null()), Error::Internal)?;
            check(EVP_CIPHER_CTX_copy(context.0, self.0), Error::Internal)?;
            Ok(context)
        }
    }
}

impl Drop for Cipher {
    fn drop(&mut self) {
        // SAFETY: owned, freed once; AWS-LC wipes its data.
        unsafe { EVP_CIPHER_CTX_free(self.0) };
    }
}

/// A key of 16, 24 or 32 bytes with its schedules.
pub struct AesKey {
    value: Secret,
    encrypt: Schedule,
    decrypt: Schedule,
}

impl AesKey {
    /// The key.
    pub fn new(key: &[u8]) -> Result<Self, Error> {
        Ok(Self {
            encrypt: Schedule::new(key, Direction::Encrypt)?,
            decrypt: Schedule::new(key, Direction::Decrypt)?,
            value: Secret::copy(key),
        })
    }

    /// Bytes of the key.
    pub fn bytes(&self) -> usize {
        self.value.len()
    }

    /// One block.
    pub fn block(&self, direction: Direction, block: &mut Block) {
        match direction {
            Direction::Encrypt => self.encrypt.encrypt(block),
            Direction::Decrypt => self.decrypt.decrypt(block),
        }
    }

    /// ECB of whole blocks.
    pub fn ecb(
        &self,
        direction: Direction,
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        whole(Blocks::ecb(self, direction), input, output)
    }

    /// CBC of whole blocks.
    pub fn cbc(
        &self,
        direction: Direction,
        iv: &Block,
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        whole(Blocks::cbc(self, direction, iv), input, output)
    }

    /// CBC with the padding of PKCS #7: 1 to 16 bytes more when encrypting. Wrong padding is
    /// `Error::Decrypt`.
    pub fn cbc_padded(
        &self,
        direction: Direction,
        iv: &Block,
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        whole(Blocks::cbc_padded(self, direction, iv), input, output)
    }

    /// CTR: the low `bits` of the counter block count, modulo 2^bits (1 to 128). Data for which a
    /// counter block would come back is refused.
    pub fn ctr(
        &self,
        counter: &Block,
        bits: u32,
        input: Input<'_>,
        output: &mut Output<'_>,
    ) -> Result<(), Error> {
        output.reserve(input.len())?;
        Ctr::new(self, counter, bits)?.update(input, output)
    }

    fn ecb_cipher(&self, direction: Direction) -> Result<Cipher, Error> {
        // SAFETY: these return static tables.
        let cipher = unsafe {
            match self.value.len() {
                16 => EVP_aes_128_ecb(),
                24 => EVP_aes_192_ecb(),
                _ => EVP_aes_256_ecb(),
            }
        };
        Cipher::new(cipher, self.value.expose(), direction)
    }
}

impl std::fmt::Debug for AesKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AesKey({} bits)", self.value.len() * 8)
    }
}

fn whole<K: Borrow<AesKey>>(
    mut blocks: Blocks<K>,
    input: Input<'_>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let padded = blocks.padding && blocks.direction == Direction::Encrypt;
    if !padded && !input.len().is_multiple_of(BLOCK) {
        return Err(Error::DataLength);
    }
    // Padded plaintext may be up to a block shorter; how much, only the decryption tells.
    let needed = match (blocks.padding, blocks.direction) {
        (true, Direction::Encrypt) => input.len() / BLOCK * BLOCK + BLOCK,
        (true, Direction::Decrypt) => input.len().saturating_sub(BLOCK),
        (false, _) => input.len(),
    };
    output.reserve(needed)?;
    blocks.update(input, output)?;
    blocks.finish(output)
}

pub(super) fn xor(block: &mut Block, other: &Block) {
    for (byte, other) in block.iter_mut().zip(other) {
        *byte ^= other;
    }
}

#[cfg(test)]
mod tests;
