//! The symmetric primitives of the ladder, over AWS-LC: HMAC, the KDF on it, and the
//! de-obfuscation cipher.
//!
//! Rust and not Python: their keys are the unique device secret and what comes from it.

use aws_lc_sys as aws;
use zeroize::Zeroizing;

/// The hash under an HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-384: 48-byte output; a key from a slot is cut to its first 48 bytes, as the
    /// accelerator reads only so much of a key-vault entry.
    Sha384,
    /// SHA-512: 64-byte output.
    Sha512,
}

impl Hash {
    /// The size of the output in bytes.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// HMAC over the concatenation of `parts`.
pub fn hmac(hash: Hash, key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let message = Zeroizing::new(parts.concat());
    let mut output = Zeroizing::new(vec![0u8; hash.size()]);
    let mut length: libc::c_uint = 0;
    // SAFETY: the digest objects are static; every pointer covers the length given with it, and
    // the output holds the digest's size.
    let done = unsafe {
        let digest = match hash {
            Hash::Sha384 => aws::EVP_sha384(),
            Hash::Sha512 => aws::EVP_sha512(),
        };
        aws::HMAC(
            digest,
            key.as_ptr().cast(),
            key.len(),
            message.as_ptr(),
            message.len(),
            output.as_mut_ptr(),
            &raw mut length,
        )
    };
    // HMAC can fail only for want of memory; all zeros would be a usable key, so stop.
    assert!(
        !done.is_null() && length as usize == hash.size(),
        "AWS-LC refused an HMAC"
    );
    output
}

/// SP 800-108 counter mode with one block: HMAC(key, 00000001 || label [|| 00 || context]).
pub fn kdf(hash: Hash, key: &[u8], label: &[u8], context: Option<&[u8]>) -> Zeroizing<Vec<u8>> {
    const COUNTER: [u8; 4] = [0, 0, 0, 1];
    match context {
        Some(context) => hmac(hash, key, &[&COUNTER, label, &[0], context]),
        None => hmac(hash, key, &[&COUNTER, label]),
    }
}

/// SHA-384 of a message.
pub fn sha384(message: &[u8]) -> [u8; 48] {
    let mut digest = [0u8; 48];
    // SAFETY: the input pointer covers its length; the output holds 48 bytes.
    unsafe {
        aws::SHA384(message.as_ptr(), message.len(), digest.as_mut_ptr());
    }
    digest
}

/// AES-256-CBC decryption without padding; `key` has 32 bytes, `text` whole 16-byte blocks.
pub fn aes256_cbc_decrypt(key: &[u8], iv: &[u8; 16], text: &[u8]) -> Zeroizing<Vec<u8>> {
    assert!(
        key.len() == 32 && text.len().is_multiple_of(16),
        "a key of 32 bytes, whole blocks"
    );
    let mut clear = Zeroizing::new(vec![0u8; text.len()]);
    let mut chain = *iv;
    // SAFETY: `schedule` is plain data that AES_set_decrypt_key fills for a 256-bit key before it
    // is used; input and output cover `text.len()` bytes, a multiple of the block; `chain` is one
    // block. The schedule is wiped before it goes out of scope.
    unsafe {
        let mut schedule: aws::AES_KEY = std::mem::zeroed();
        aws::AES_set_decrypt_key(key.as_ptr(), 256, &raw mut schedule);
        aws::AES_cbc_encrypt(
            text.as_ptr(),
            clear.as_mut_ptr(),
            text.len(),
            &raw const schedule,
            chain.as_mut_ptr(),
            0,
        );
        aws::OPENSSL_cleanse(
            (&raw mut schedule).cast(),
            std::mem::size_of::<aws::AES_KEY>(),
        );
    }
    clear
}

/// SP 800-108 counter mode over AES-256-CMAC, four blocks: CMAC(key, counter || label).
pub fn cmac_kdf(key: &[u8; 32], label: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut output = Zeroizing::new(Vec::with_capacity(64));
    for counter in 1u32..=4 {
        let mut block = Zeroizing::new([0u8; 16]);
        let mut length: usize = 0;
        let number = counter.to_be_bytes();
        // SAFETY: the context is made and freed here; every pointer covers the length given with
        // it; the output holds one block, which is what CMAC writes.
        let done = unsafe {
            let context = aws::CMAC_CTX_new();
            assert!(!context.is_null(), "AWS-LC has no memory for a CMAC");
            let done = aws::CMAC_Init(
                context,
                key.as_ptr().cast(),
                key.len(),
                aws::EVP_aes_256_cbc(),
                std::ptr::null_mut(),
            ) == 1
                && aws::CMAC_Update(context, number.as_ptr(), number.len()) == 1
                && aws::CMAC_Update(context, label.as_ptr(), label.len()) == 1
                && aws::CMAC_Final(context, block.as_mut_ptr(), &raw mut length) == 1;
            aws::CMAC_CTX_free(context);
            done
        };
        // As with HMAC: a wrong key would be worse than a stop.
        assert!(done && length == block.len(), "AWS-LC refused a CMAC");
        output.extend_from_slice(block.as_slice());
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cmac_kdf_of_the_public_vector() {
        // CAVP KDF108, CMAC-AES256, counter before fixed data (as in caliptra-sw's self-test).
        let key = [
            0xbf, 0xb9, 0x9c, 0x6a, 0xab, 0x85, 0x9a, 0x98, 0x73, 0xac, 0xc9, 0x88, 0x0b, 0xd8,
            0x75, 0xbb, 0x83, 0xa8, 0xb2, 0x4a, 0x93, 0x07, 0x57, 0x6a, 0x05, 0x42, 0x16, 0x90,
            0x87, 0x56, 0xbe, 0x5b,
        ];
        let label = [
            0xcd, 0x9b, 0x97, 0x91, 0xf5, 0xee, 0xe2, 0x11, 0x91, 0x8b, 0xa1, 0xe2, 0xb0, 0x1b,
            0x4e, 0x29,
        ];
        let output = cmac_kdf(&key, &label);
        assert_eq!(output[..4], [0xc3, 0x03, 0x88, 0x7f]);
        assert_eq!(output[60..], [0x0a, 0x3d, 0xb6, 0x6e]);
    }

    #[test]
    fn hmac_of_rfc_4231_case_2() {
        let mac = hmac(
            Hash::Sha384,
            b"Jefe",
            &[b"what do ya want ", b"for nothing?"],
        );
        assert_eq!(mac[..4], [0xaf, 0x45, 0xd2, 0xe3]);
        let mac = hmac(Hash::Sha512, b"Jefe", &[b"what do ya want for nothing?"]);
        assert_eq!(mac[..4], [0x16, 0x4b, 0x7a, 0x7b]);
    }

    #[test]
    fn sha384_of_abc() {
        assert_eq!(sha384(b"abc")[..4], [0xcb, 0x00, 0x75, 0x3f]);
    }
}
