//! The symmetric steps of the ladder: HMAC, the KDFs on it and on CMAC, the de-obfuscation cipher.
//!
//! Rust and not Python: their keys are the unique device secret and what comes from it.

use crate::lc::aes::{AesKey, Block, Direction};
use crate::lc::digest::{Hash, digest};
use crate::lc::hmac::HmacKey;
use crate::lc::kdf::{Field, Prf, kbkdf_counter};
use crate::lc::{Error, Input, Output, Secret};

/// The counter of SP 800-108 as Caliptra writes it: four bytes, big-endian, first.
const COUNTER: Field<'_> = Field::Counter {
    width: 4,
    little_endian: false,
};

/// HMAC over the concatenation of `parts`.
pub fn hmac(hash: Hash, key: &[u8], parts: &[&[u8]]) -> Result<Secret, Error> {
    let mut value = HmacKey::new(hash, key)?.mac_of(parts)?;
    let secret = Secret::copy(&value);
    value.wipe();
    Ok(secret)
}

/// SP 800-108 counter mode with one block: HMAC(key, 00000001 || label [|| 00 || context]).
pub fn kdf(hash: Hash, key: &[u8], label: &[u8], context: Option<&[u8]>) -> Result<Secret, Error> {
    let prf = Prf::hmac(hash, key)?;
    let fields = [COUNTER, Field::Bytes(label), Field::Bytes(&[0])];
    match context {
        Some(context) => {
            let [counter, label, separator] = fields;
            let fields = [counter, label, separator, Field::Bytes(context)];
            kbkdf_counter(&prf, &fields, hash.bytes())
        }
        None => {
            let [counter, label, _] = fields;
            kbkdf_counter(&prf, &[counter, label], hash.bytes())
        }
    }
}

/// SP 800-108 counter mode over AES-256-CMAC, four blocks (64 bytes): CMAC(key, counter || label).
pub fn cmac_kdf(key: &[u8], label: &[u8]) -> Result<Secret, Error> {
    kbkdf_counter(&Prf::cmac(key)?, &[COUNTER, Field::Bytes(label)], 64)
}

/// SHA-384 of a message.
pub fn sha384(message: &[u8]) -> Result<[u8; 48], Error> {
    let value = digest(Hash::Sha384, Input::new(message))?;
    value.as_slice().try_into().map_err(|_| Error::Internal)
}

/// AES-256-CBC decryption without padding; `key` has 32 bytes, `text` whole 16-byte blocks.
pub fn aes256_cbc_decrypt(key: &[u8], iv: &Block, text: &[u8]) -> Result<Secret, Error> {
    let mut clear = Secret::zeroed(text.len());
    let mut output = Output::new(clear.expose_mut());
    AesKey::new(key)?.cbc(Direction::Decrypt, iv, Input::new(text), &mut output)?;
    Ok(clear)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lc::hex;

    #[test]
    fn hmac_of_rfc_4231_case_2() {
        let mac = hmac(
            Hash::Sha384,
            b"Jefe",
            &[b"what do ya want ", b"for nothing?"],
        )
        .unwrap();
        assert_eq!(mac.expose()[..4], [0xaf, 0x45, 0xd2, 0xe3]);
        let mac = hmac(Hash::Sha512, b"Jefe", &[b"what do ya want for nothing?"]).unwrap();
        assert_eq!(mac.expose()[..4], [0x16, 0x4b, 0x7a, 0x7b]);
    }

    #[test]
    fn kdf_is_hmac_of_counter_label_and_context() {
        let plain = hmac(Hash::Sha512, &[7; 64], &[&[0, 0, 0, 1], b"label"]).unwrap();
        let derived = kdf(Hash::Sha512, &[7; 64], b"label", None).unwrap();
        assert_eq!(plain.expose(), derived.expose());
        let plain = hmac(
            Hash::Sha384,
            &[7; 48],
            &[&[0, 0, 0, 1], b"label", &[0], b"c"],
        )
        .unwrap();
        let derived = kdf(Hash::Sha384, &[7; 48], b"label", Some(b"c")).unwrap();
        assert_eq!(plain.expose(), derived.expose());
    }

    #[test]
    fn cmac_kdf_of_the_public_vector() {
        // CAVP KDF108, CMAC-AES256, counter before fixed data (as in caliptra-sw's self-test).
        let key = hex("bfb99c6aab859a9873acc9880bd875bb83a8b24a9307576a054216908756be5b");
        let output = cmac_kdf(&key, &hex("cd9b9791f5eee211918ba1e2b01b4e29")).unwrap();
        assert_eq!(output.expose()[..4], [0xc3, 0x03, 0x88, 0x7f]);
        assert_eq!(output.expose()[60..], [0x0a, 0x3d, 0xb6, 0x6e]);
    }

    #[test]
    fn cbc_decrypts_the_first_block_of_sp_800_38a() {
        // F.2.6, CBC-AES256.Decrypt.
        let key = hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
        let iv: Block = hex("000102030405060708090a0b0c0d0e0f").try_into().unwrap();
        let clear =
            aes256_cbc_decrypt(&key, &iv, &hex("f58c4c04d6e5f1ba779eabfb5f7bfbd6")).unwrap();
        assert_eq!(clear.expose(), hex("6bc1bee22e409f96e93d7e117393172a"));
    }
}
