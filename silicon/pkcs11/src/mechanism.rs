//! C mechanism parameters to their wire form.
//!
//! Which structure a mechanism's parameter points to is the standard's knowledge and stands here;
//! whether the values make sense is the module's to say. A mechanism that is not named here takes
//! plain bytes (an IV, mostly), or nothing.

use crate::outcome::Outcome;
use casemate_transport::parameters::{
    DERIVED_KEYS_MAX, KDF_FIELDS_MAX, KdfField, Oaep, Parameters, Pss, Sp800Kdf, TlsRandoms,
};
use cryptoki_sys::*;
use std::mem::size_of;
use zeroize::Zeroizing;

mod returned;

pub use returned::{generated_iv, give_back};

/// A mechanism whose parameters have been encoded.
#[derive(Clone, Copy, Debug)]
pub struct Encoded {
    /// CK_MECHANISM_TYPE.
    pub kind: CK_MECHANISM_TYPE,
    /// `Parameters::shape`.
    pub shape: u64,
}

/// Most bytes of one field: everything must fit a slot.
const FIELD_MAX: CK_ULONG = 16 * 1024;
/// CK_GCM_PARAMS as PKCS#11 2.40 first printed it, without `ulIvBits`; still in use.
const GCM_PARAMS_WITHOUT_IV_BITS: usize = 40;

/// The most that a ciphertext is longer than its plaintext, where the mechanism says it.
pub fn growth(kind: CK_MECHANISM_TYPE, parameters: &[u8]) -> Option<usize> {
    match kind {
        CKM_AES_GCM => Some(tag_bytes(kind, parameters)),
        CKM_AES_CBC_PAD => Some(16),
        CKM_AES_CTR | CKM_AES_CBC | CKM_AES_ECB | CKM_AES_XTS => Some(0),
        _ => None,
    }
}

/// Bytes of the tag within the ciphertext of AES-GCM, from the wire form of its parameters; else 0.
pub fn tag_bytes(kind: CK_MECHANISM_TYPE, parameters: &[u8]) -> usize {
    // u8 form, u32 IV bits, u32 tag bits.
    match parameters.get(5..9).map(<[u8; 4]>::try_from) {
        Some(Ok(bits)) if kind == CKM_AES_GCM => u32::from_le_bytes(bits) as usize / 8,
        _ => 0,
    }
}

/// Replaces `out` by the wire form of the mechanism's parameters.
///
/// # Safety
/// As PKCS#11 has it: the parameter is the structure of the mechanism, with its length.
pub unsafe fn encode(mechanism: *const CK_MECHANISM, out: &mut Vec<u8>) -> Outcome<Encoded> {
    out.clear();
    // SAFETY: by this function's contract.
    let mechanism = unsafe { mechanism.as_ref() }.ok_or(CKR_ARGUMENTS_BAD)?;
    let mut templates = Vec::new();
    // SAFETY: by this function's contract.
    let parameters = unsafe { read(mechanism, &mut templates)? };
    parameters.encode(out);
    Ok(Encoded {
        kind: mechanism.mechanism,
        shape: parameters.shape(),
    })
}

/// The structure behind the parameter pointer.
///
/// # Safety
/// As `encode`.
pub unsafe fn structure<T>(mechanism: &CK_MECHANISM) -> Outcome<T> {
    if mechanism.pParameter.is_null() || mechanism.ulParameterLen != size_of::<T>() as CK_ULONG {
        return Err(CKR_MECHANISM_PARAM_INVALID);
    }
    // SAFETY: by this function's contract there is a T.
    Ok(unsafe { std::ptr::read_unaligned(mechanism.pParameter.cast()) })
}

/// A field of bytes.
unsafe fn bytes<'a, T>(pointer: *const T, length: CK_ULONG) -> Outcome<&'a [u8]> {
    if length > FIELD_MAX {
        return Err(CKR_MECHANISM_PARAM_INVALID);
    }
    // SAFETY: by the contract of `encode`.
    unsafe { crate::output::input(pointer.cast(), length) }.map_err(|_| CKR_MECHANISM_PARAM_INVALID)
}

fn small(value: CK_ULONG) -> Outcome<u32> {
    u32::try_from(value).map_err(|_| CKR_MECHANISM_PARAM_INVALID)
}

fn flag(value: CK_BBOOL) -> bool {
    value != CK_FALSE
}

/// Reads what the mechanism points to. `templates` keeps what the parameters borrow.
unsafe fn read<'a>(
    mechanism: &CK_MECHANISM,
    templates: &'a mut Vec<Zeroizing<Vec<u8>>>,
) -> Outcome<Parameters<'a>> {
    let none = mechanism.ulParameterLen == 0;
    // SAFETY: in all of this function: the structure of the mechanism stands behind the pointer, and
    // its pointers have its lengths.
    unsafe {
        Ok(match mechanism.mechanism {
            CKM_AES_CTR => {
                let p: CK_AES_CTR_PARAMS = structure(mechanism)?;
                Parameters::Counter {
                    bits: small(p.ulCounterBits)?,
                    block: p.cb,
                }
            }
            CKM_AES_GCM if !none => gcm(mechanism)?,
            CKM_RSA_PKCS_OAEP => Parameters::Oaep(oaep(&structure(mechanism)?)?),
            kind if is_pss(kind) => {
                let p: CK_RSA_PKCS_PSS_PARAMS = structure(mechanism)?;
                Parameters::Pss(Pss {
                    hash: p.hashAlg,
                    mgf: p.mgf,
                    salt_length: p.sLen,
                })
            }
            CKM_RSA_AES_KEY_WRAP => {
                let p: CK_RSA_AES_KEY_WRAP_PARAMS = structure(mechanism)?;
                let inner = p.pOAEPParams.as_ref().ok_or(CKR_MECHANISM_PARAM_INVALID)?;
                Parameters::RsaAesWrap {
                    aes_bits: small(p.ulAESKeyBits)?,
                    oaep: oaep(inner)?,
                }
            }
            CKM_ECDH1_DERIVE | CKM_ECDH1_COFACTOR_DERIVE => {
                let p: CK_ECDH1_DERIVE_PARAMS = structure(mechanism)?;
                Parameters::Ecdh {
                    kdf: p.kdf,
                    shared: bytes(p.pSharedData, p.ulSharedDataLen)?,
                    public: bytes(p.pPublicData, p.ulPublicDataLen)?,
                }
            }
            CKM_EDDSA if !none => {
                let p: CK_EDDSA_PARAMS = structure(mechanism)?;
                Parameters::Eddsa {
                    prehash: flag(p.phFlag),
                    context: bytes(p.pContextData, p.ulContextDataLen)?,
                }
            }
            CKM_HASH_ML_DSA | CKM_HASH_SLH_DSA if !none => {
                let p: CK_HASH_SIGN_ADDITIONAL_CONTEXT = structure(mechanism)?;
                Parameters::HashSignContext {
                    hedge: p.hedgeVariant,
                    context: bytes(p.pContext, p.ulContextLen)?,
                    hash: p.hash,
                }
            }
            kind if !none && takes_sign_context(kind) => {
                let p: CK_SIGN_ADDITIONAL_CONTEXT = structure(mechanism)?;
                Parameters::SignContext {
                    hedge: p.hedgeVariant,
                    context: bytes(p.pContext, p.ulContextLen)?,
                }
            }
            kind if takes_number(kind) => Parameters::Number(structure::<CK_ULONG>(mechanism)?),
            CKM_AES_ECB_ENCRYPT_DATA
            | CKM_CONCATENATE_BASE_AND_DATA
            | CKM_CONCATENATE_DATA_AND_BASE
            | CKM_XOR_BASE_AND_DATA => {
                let p: CK_KEY_DERIVATION_STRING_DATA = structure(mechanism)?;
                Parameters::Bytes(bytes(p.pData, p.ulLen)?)
            }
            CKM_AES_CBC_ENCRYPT_DATA => {
                let p: CK_AES_CBC_ENCRYPT_DATA_PARAMS = structure(mechanism)?;
                Parameters::CbcData {
                    iv: p.iv,
                    data: bytes(p.pData, p.length)?,
                }
            }
            CKM_HKDF_DERIVE | CKM_HKDF_DATA => {
                let p: CK_HKDF_PARAMS = structure(mechanism)?;
                Parameters::Hkdf {
                    extract: flag(p.bExtract),
                    expand: flag(p.bExpand),
                    hash: p.prfHashMechanism,
                    salt_type: p.ulSaltType,
                    salt: if p.ulSaltType == CKF_HKDF_SALT_DATA {
                        bytes(p.pSalt, p.ulSaltLen)?
                    } else {
                        &[]
                    },
                    salt_key: if p.ulSaltType == CKF_HKDF_SALT_KEY {
                        p.hSaltKey
                    } else {
                        0
                    },
                    info: bytes(p.pInfo, p.ulInfoLen)?,
                }
            }
            CKM_SP800_108_COUNTER_KDF
            | CKM_SP800_108_DOUBLE_PIPELINE_KDF
            | CKM_SP800_108_FEEDBACK_KDF => Parameters::Sp800Kdf(sp800(mechanism, templates)?),
            _ => return tls(mechanism),
        })
    }
}

/// The TLS mechanisms, and whatever takes plain bytes.
unsafe fn tls<'a>(mechanism: &CK_MECHANISM) -> Outcome<Parameters<'a>> {
    // SAFETY: as in `read`.
    unsafe {
        Ok(match mechanism.mechanism {
            CKM_TLS12_MASTER_KEY_DERIVE | CKM_TLS12_MASTER_KEY_DERIVE_DH => {
                let p: CK_TLS12_MASTER_KEY_DERIVE_PARAMS = structure(mechanism)?;
                Parameters::TlsMaster {
                    prf: p.prfHashMechanism,
                    randoms: randoms(&p.RandomInfo)?,
                    version: !p.pVersion.is_null(),
                }
            }
            CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE | CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE_DH => {
                let p: CK_TLS12_EXTENDED_MASTER_KEY_DERIVE_PARAMS = structure(mechanism)?;
                Parameters::TlsExtendedMaster {
                    prf: p.prfHashMechanism,
                    session_hash: bytes(p.pSessionHash, p.ulSessionHashLen)?,
                    version: !p.pVersion.is_null(),
                }
            }
            CKM_TLS12_KEY_AND_MAC_DERIVE | CKM_TLS12_KEY_SAFE_DERIVE => {
                let p: CK_TLS12_KEY_MAT_PARAMS = structure(mechanism)?;
                Parameters::TlsKeyMaterial {
                    prf: p.prfHashMechanism,
                    mac_bits: small(p.ulMacSizeInBits)?,
                    key_bits: small(p.ulKeySizeInBits)?,
                    iv_bits: small(p.ulIVSizeInBits)?,
                    randoms: randoms(&p.RandomInfo)?,
                }
            }
            CKM_TLS12_KDF | CKM_TLS_KDF => {
                let p: CK_TLS_KDF_PARAMS = structure(mechanism)?;
                Parameters::TlsKdf {
                    prf: p.prfMechanism,
                    label: bytes(p.pLabel, p.ulLabelLength)?,
                    randoms: randoms(&p.RandomInfo)?,
                    context: bytes(p.pContextData, p.ulContextDataLength)?,
                }
            }
            CKM_TLS12_MAC | CKM_TLS_MAC => {
                let p: CK_TLS_MAC_PARAMS = structure(mechanism)?;
                Parameters::TlsMac {
                    prf: p.prfHashMechanism,
                    length: p.ulMacLength,
                    side: p.ulServerOrClient,
                }
            }
            _ if mechanism.ulParameterLen == 0 => Parameters::None,
            _ => Parameters::Bytes(bytes(mechanism.pParameter, mechanism.ulParameterLen)?),
        })
    }
}

fn is_pss(kind: CK_MECHANISM_TYPE) -> bool {
    matches!(
        kind,
        CKM_RSA_PKCS_PSS
            | CKM_SHA1_RSA_PKCS_PSS
            | CKM_SHA224_RSA_PKCS_PSS
            | CKM_SHA256_RSA_PKCS_PSS
            | CKM_SHA384_RSA_PKCS_PSS
            | CKM_SHA512_RSA_PKCS_PSS
            | CKM_SHA3_224_RSA_PKCS_PSS
            | CKM_SHA3_256_RSA_PKCS_PSS
            | CKM_SHA3_384_RSA_PKCS_PSS
            | CKM_SHA3_512_RSA_PKCS_PSS
    )
}

fn takes_sign_context(kind: CK_MECHANISM_TYPE) -> bool {
    matches!(
        kind,
        CKM_ML_DSA
            | CKM_HASH_ML_DSA_SHA224
            | CKM_HASH_ML_DSA_SHA256
            | CKM_HASH_ML_DSA_SHA384
            | CKM_HASH_ML_DSA_SHA512
            | CKM_HASH_ML_DSA_SHA3_224
            | CKM_HASH_ML_DSA_SHA3_256
            | CKM_HASH_ML_DSA_SHA3_384
            | CKM_HASH_ML_DSA_SHA3_512
            | CKM_HASH_ML_DSA_SHAKE128
            | CKM_HASH_ML_DSA_SHAKE256
            | CKM_SLH_DSA
    )
}

fn takes_number(kind: CK_MECHANISM_TYPE) -> bool {
    matches!(
        kind,
        CKM_AES_MAC_GENERAL
            | CKM_AES_CMAC_GENERAL
            | CKM_SHA_1_HMAC_GENERAL
            | CKM_SHA224_HMAC_GENERAL
            | CKM_SHA256_HMAC_GENERAL
            | CKM_SHA384_HMAC_GENERAL
            | CKM_SHA512_HMAC_GENERAL
            | CKM_SHA512_224_HMAC_GENERAL
            | CKM_SHA512_256_HMAC_GENERAL
            | CKM_SHA3_224_HMAC_GENERAL
            | CKM_SHA3_256_HMAC_GENERAL
            | CKM_SHA3_384_HMAC_GENERAL
            | CKM_SHA3_512_HMAC_GENERAL
            | CKM_CONCATENATE_BASE_AND_KEY
            | CKM_EXTRACT_KEY_FROM_KEY
    )
}

unsafe fn gcm<'a>(mechanism: &CK_MECHANISM) -> Outcome<Parameters<'a>> {
    // SAFETY: as in `read`; the length tells the structures apart.
    unsafe {
        if mechanism.ulParameterLen as usize == size_of::<CK_GCM_WRAP_PARAMS>() {
            let p: CK_GCM_WRAP_PARAMS = structure(mechanism)?;
            return Ok(Parameters::GcmMessage {
                iv: bytes(p.pIv, p.ulIvLen)?,
                fixed_bits: small(p.ulIvFixedBits)?,
                generator: p.ivGenerator,
                aad: bytes(p.pAAD, p.ulAADLen)?,
                tag_bits: small(p.ulTagBits)?,
                tag: &[],
            });
        }
        if mechanism.ulParameterLen as usize == GCM_PARAMS_WITHOUT_IV_BITS {
            #[repr(C)]
            struct WithoutIvBits {
                iv: *const u8,
                iv_length: CK_ULONG,
                aad: *const u8,
                aad_length: CK_ULONG,
                tag_bits: CK_ULONG,
            }
            let p: WithoutIvBits = structure(mechanism)?;
            return Ok(Parameters::Gcm {
                iv: bytes(p.iv, p.iv_length)?,
                iv_bits: small(p.iv_length.saturating_mul(8))?,
                aad: bytes(p.aad, p.aad_length)?,
                tag_bits: small(p.tag_bits)?,
            });
        }
        let p: CK_GCM_PARAMS = structure(mechanism)?;
        Ok(Parameters::Gcm {
            iv: bytes(p.pIv, p.ulIvLen)?,
            // Many programs leave this field at zero.
            iv_bits: small(p.ulIvLen.saturating_mul(8))?,
            aad: bytes(p.pAAD, p.ulAADLen)?,
            tag_bits: small(p.ulTagBits)?,
        })
    }
}

unsafe fn oaep<'a>(p: &CK_RSA_PKCS_OAEP_PARAMS) -> Outcome<Oaep<'a>> {
    Ok(Oaep {
        hash: p.hashAlg,
        mgf: p.mgf,
        source: p.source,
        // SAFETY: as in `read`.
        label: unsafe { bytes(p.pSourceData, p.ulSourceDataLen)? },
    })
}

unsafe fn randoms<'a>(p: &CK_SSL3_RANDOM_DATA) -> Outcome<TlsRandoms<'a>> {
    // SAFETY: as in `read`.
    unsafe {
        Ok(TlsRandoms {
            client: bytes(p.pClientRandom, p.ulClientRandomLen)?,
            server: bytes(p.pServerRandom, p.ulServerRandomLen)?,
        })
    }
}

/// What both SP 800-108 structures hold.
struct Sp800Fields {
    prf: CK_MECHANISM_TYPE,
    fields: (*const CK_PRF_DATA_PARAM, CK_ULONG),
    iv: (*const u8, CK_ULONG),
    keys: (*const CK_DERIVED_KEY, CK_ULONG),
}

unsafe fn sp800_fields(mechanism: &CK_MECHANISM) -> Outcome<Sp800Fields> {
    // SAFETY: as in `read`.
    unsafe {
        if mechanism.mechanism == CKM_SP800_108_FEEDBACK_KDF {
            let p: CK_SP800_108_FEEDBACK_KDF_PARAMS = structure(mechanism)?;
            return Ok(Sp800Fields {
                prf: p.prfType,
                fields: (p.pDataParams, p.ulNumberOfDataParams),
                iv: (p.pIV, p.ulIVLen),
                keys: (p.pAdditionalDerivedKeys, p.ulAdditionalDerivedKeys),
            });
        }
        let p: CK_SP800_108_KDF_PARAMS = structure(mechanism)?;
        Ok(Sp800Fields {
            prf: p.prfType,
            fields: (p.pDataParams, p.ulNumberOfDataParams),
            iv: (std::ptr::null(), 0),
            keys: (p.pAdditionalDerivedKeys, p.ulAdditionalDerivedKeys),
        })
    }
}

unsafe fn list<'a, T>(pointer: *const T, count: CK_ULONG, most: usize) -> Outcome<&'a [T]> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count == 0 {
        return Ok(&[]);
    }
    if count > most || pointer.is_null() || !pointer.is_aligned() {
        return Err(CKR_MECHANISM_PARAM_INVALID);
    }
    // SAFETY: by the contract of `encode`; the count is bounded.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

unsafe fn sp800<'a>(
    mechanism: &CK_MECHANISM,
    templates: &'a mut Vec<Zeroizing<Vec<u8>>>,
) -> Outcome<Sp800Kdf<'a>> {
    // SAFETY: as in `read`.
    unsafe {
        let p = sp800_fields(mechanism)?;
        let fields = list(p.fields.0, p.fields.1, KDF_FIELDS_MAX)?
            .iter()
            .map(|field| kdf_field(field))
            .collect::<Outcome<_>>()?;
        for key in list(p.keys.0, p.keys.1, DERIVED_KEYS_MAX)? {
            templates.push(crate::templates::encode(
                key.pTemplate,
                key.ulAttributeCount,
            )?);
        }
        Ok(Sp800Kdf {
            prf: p.prf,
            fields,
            iv: bytes(p.iv.0, p.iv.1)?,
            further_keys: templates
                .iter()
                .map(|template| template.as_slice())
                .collect(),
        })
    }
}

unsafe fn kdf_field<'a>(field: &CK_PRF_DATA_PARAM) -> Outcome<KdfField<'a>> {
    // SAFETY: as in `read`.
    unsafe {
        let inside = CK_MECHANISM {
            mechanism: 0,
            pParameter: field.pValue,
            ulParameterLen: field.ulValueLen,
        };
        Ok(match field.type_ {
            CK_SP800_108_ITERATION_VARIABLE if field.pValue.is_null() => KdfField::Iteration {
                little_endian: false,
                width_bits: 0,
            },
            CK_SP800_108_ITERATION_VARIABLE => {
                let p: CK_SP800_108_COUNTER_FORMAT = structure(&inside)?;
                KdfField::Iteration {
                    little_endian: flag(p.bLittleEndian),
                    width_bits: small(p.ulWidthInBits)?,
                }
            }
            CK_SP800_108_COUNTER => {
                let p: CK_SP800_108_COUNTER_FORMAT = structure(&inside)?;
                KdfField::Counter {
                    little_endian: flag(p.bLittleEndian),
                    width_bits: small(p.ulWidthInBits)?,
                }
            }
            CK_SP800_108_DKM_LENGTH => {
                let p: CK_SP800_108_DKM_LENGTH_FORMAT = structure(&inside)?;
                KdfField::Length {
                    method: p.dkmLengthMethod,
                    little_endian: flag(p.bLittleEndian),
                    width_bits: small(p.ulWidthInBits)?,
                }
            }
            CK_SP800_108_BYTE_ARRAY => KdfField::Bytes(bytes(field.pValue, field.ulValueLen)?),
            CK_SP800_108_KEY_HANDLE => KdfField::Key(structure::<CK_OBJECT_HANDLE>(&inside)?),
            _ => return Err(CKR_MECHANISM_PARAM_INVALID),
        })
    }
}
