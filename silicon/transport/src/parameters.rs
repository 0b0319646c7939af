//! Mechanism parameters on the wire: the C structures hold pointers, these hold counted bytes.
//!
//! The first byte names the form, so that a body decodes without knowing the mechanism; whether a
//! mechanism takes that form is the module's question. No parameters are no bytes. What a mechanism
//! takes stands in docs/transport.md.

mod kdf;
mod wire;

pub use kdf::{DERIVED_KEYS_MAX, KDF_FIELDS_MAX, KdfField, Sp800Kdf};

/// CK_RSA_PKCS_OAEP_PARAMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oaep<'a> {
    /// Hash, a CK_MECHANISM_TYPE.
    pub hash: u64,
    /// CK_RSA_PKCS_MGF_TYPE.
    pub mgf: u64,
    /// CK_RSA_PKCS_OAEP_SOURCE_TYPE.
    pub source: u64,
    /// The label.
    pub label: &'a [u8],
}

/// CK_RSA_PKCS_PSS_PARAMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pss {
    /// Hash, a CK_MECHANISM_TYPE.
    pub hash: u64,
    /// CK_RSA_PKCS_MGF_TYPE.
    pub mgf: u64,
    /// Bytes of salt.
    pub salt_length: u64,
}

/// The two randoms of a TLS handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsRandoms<'a> {
    /// The client's.
    pub client: &'a [u8],
    /// The server's.
    pub server: &'a [u8],
}

/// The parameters of a mechanism.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parameters<'a> {
    /// No parameters.
    None,
    /// Bytes as they are: IV, XTS tweak, key-derivation string data.
    Bytes(&'a [u8]),
    /// A number: CK_MAC_GENERAL_PARAMS, CK_EXTRACT_PARAMS, an object handle.
    Number(u64),
    /// CK_AES_CTR_PARAMS.
    Counter {
        /// Bits of the block that count.
        bits: u32,
        /// The first counter block.
        block: [u8; 16],
    },
    /// CK_GCM_PARAMS.
    Gcm {
        /// The IV; empty with `iv_bits` = 0: the module makes a 12-byte IV.
        iv: &'a [u8],
        /// The IV's length in bits.
        iv_bits: u32,
        /// Associated data.
        aad: &'a [u8],
        /// 32 to 128.
        tag_bits: u32,
    },
    /// CK_GCM_MESSAGE_PARAMS (and CK_GCM_WRAP_PARAMS, with an empty tag).
    GcmMessage {
        /// The IV's buffer: its fixed part counts where the module generates.
        iv: &'a [u8],
        /// Bits of the fixed part.
        fixed_bits: u32,
        /// CK_GENERATOR_FUNCTION: 0 the IV is given.
        generator: u64,
        /// Associated data.
        aad: &'a [u8],
        /// 32 to 128.
        tag_bits: u32,
        /// The tag to compare with (decryption).
        tag: &'a [u8],
    },
    /// CK_RSA_PKCS_OAEP_PARAMS.
    Oaep(Oaep<'a>),
    /// CK_RSA_PKCS_PSS_PARAMS.
    Pss(Pss),
    /// CK_RSA_AES_KEY_WRAP_PARAMS.
    RsaAesWrap {
        /// Bits of the temporary AES key.
        aes_bits: u32,
        /// How that key is wrapped.
        oaep: Oaep<'a>,
    },
    /// CK_ECDH1_DERIVE_PARAMS.
    Ecdh {
        /// CK_EC_KDF_TYPE.
        kdf: u64,
        /// Shared data.
        shared: &'a [u8],
        /// The other side's public value.
        public: &'a [u8],
    },
    /// CK_EDDSA_PARAMS.
    Eddsa {
        /// Ed25519ph, Ed448ph.
        prehash: bool,
        /// Context.
        context: &'a [u8],
    },
    /// CK_SIGN_ADDITIONAL_CONTEXT.
    SignContext {
        /// CK_HEDGE_TYPE.
        hedge: u64,
        /// Context.
        context: &'a [u8],
    },
    /// CK_HASH_SIGN_ADDITIONAL_CONTEXT.
    HashSignContext {
        /// CK_HEDGE_TYPE.
        hedge: u64,
        /// Context.
        context: &'a [u8],
        /// Hash, a CK_MECHANISM_TYPE.
        hash: u64,
    },
    /// CK_HKDF_PARAMS.
    Hkdf {
        /// Do the extract step.
        extract: bool,
        /// Do the expand step.
        expand: bool,
        /// Hash, a CK_MECHANISM_TYPE.
        hash: u64,
        /// CKF_HKDF_SALT_NULL, _DATA or _KEY.
        salt_type: u64,
        /// Salt.
        salt: &'a [u8],
        /// Salt key's handle.
        salt_key: u64,
        /// Info.
        info: &'a [u8],
    },
    /// CK_SP800_108_KDF_PARAMS.
    Sp800Kdf(Sp800Kdf<'a>),
    /// CK_TLS12_MASTER_KEY_DERIVE_PARAMS.
    TlsMaster {
        /// Hash of the PRF, a CK_MECHANISM_TYPE.
        prf: u64,
        /// The randoms.
        randoms: TlsRandoms<'a>,
        /// The caller wants the version that stands in the premaster secret (output, 2 bytes).
        version: bool,
    },
    /// CK_TLS12_EXTENDED_MASTER_KEY_DERIVE_PARAMS.
    TlsExtendedMaster {
        /// Hash of the PRF, a CK_MECHANISM_TYPE.
        prf: u64,
        /// Hash of the handshake.
        session_hash: &'a [u8],
        /// As in `TlsMaster`.
        version: bool,
    },
    /// CK_TLS12_KEY_MAT_PARAMS.
    TlsKeyMaterial {
        /// Hash of the PRF, a CK_MECHANISM_TYPE.
        prf: u64,
        /// Bits of each MAC key.
        mac_bits: u32,
        /// Bits of each key.
        key_bits: u32,
        /// Bits of each IV.
        iv_bits: u32,
        /// The randoms.
        randoms: TlsRandoms<'a>,
    },
    /// CK_TLS_KDF_PARAMS.
    TlsKdf {
        /// Hash of the PRF, a CK_MECHANISM_TYPE.
        prf: u64,
        /// Label.
        label: &'a [u8],
        /// The randoms.
        randoms: TlsRandoms<'a>,
        /// Context.
        context: &'a [u8],
    },
    /// CK_TLS_MAC_PARAMS.
    TlsMac {
        /// Hash of the PRF, a CK_MECHANISM_TYPE.
        prf: u64,
        /// Bytes of MAC.
        length: u64,
        /// 1 server, 2 client.
        side: u64,
    },
    /// CK_AES_CBC_ENCRYPT_DATA_PARAMS.
    CbcData {
        /// IV.
        iv: [u8; 16],
        /// What is encrypted into a key.
        data: &'a [u8],
    },
}

#[cfg(test)]
mod tests;
