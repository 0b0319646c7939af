//! What goes back through a mechanism's C parameters: handles, versions, key material, IVs.

use super::{list, sp800_fields, structure};
use crate::outcome::Outcome;
use casemate_transport::parameters::DERIVED_KEYS_MAX;
use cryptoki_sys::*;

/// Writes what C_DeriveKey gives beside the key into the caller's parameters: further keys' handles,
/// a TLS version, TLS key material.
///
/// # Safety
/// As `encode`; the mechanism has been encoded before.
pub unsafe fn give_back(mechanism: *const CK_MECHANISM, output: &[u8]) -> Outcome {
    // SAFETY: by this function's contract.
    unsafe {
        let mechanism = mechanism.as_ref().ok_or(CKR_ARGUMENTS_BAD)?;
        match mechanism.mechanism {
            CKM_SP800_108_COUNTER_KDF
            | CKM_SP800_108_DOUBLE_PIPELINE_KDF
            | CKM_SP800_108_FEEDBACK_KDF => {
                let p = sp800_fields(mechanism)?;
                let keys = list(p.keys.0, p.keys.1, DERIVED_KEYS_MAX)?;
                for (key, handle) in keys.iter().zip(handles(output)) {
                    if let Some(target) = key.phKey.as_mut() {
                        *target = handle;
                    }
                }
            }
            CKM_TLS12_MASTER_KEY_DERIVE | CKM_TLS12_MASTER_KEY_DERIVE_DH => {
                let p: CK_TLS12_MASTER_KEY_DERIVE_PARAMS = structure(mechanism)?;
                give_version(p.pVersion, output);
            }
            CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE | CKM_TLS12_EXTENDED_MASTER_KEY_DERIVE_DH => {
                let p: CK_TLS12_EXTENDED_MASTER_KEY_DERIVE_PARAMS = structure(mechanism)?;
                give_version(p.pVersion, output);
            }
            CKM_TLS12_KEY_AND_MAC_DERIVE | CKM_TLS12_KEY_SAFE_DERIVE => {
                let p: CK_TLS12_KEY_MAT_PARAMS = structure(mechanism)?;
                let target = p
                    .pReturnedKeyMaterial
                    .as_mut()
                    .ok_or(CKR_MECHANISM_PARAM_INVALID)?;
                let mut keys = handles(output);
                target.hClientMacSecret = keys.next().unwrap_or(0);
                target.hServerMacSecret = keys.next().unwrap_or(0);
                target.hClientKey = keys.next().unwrap_or(0);
                target.hServerKey = keys.next().unwrap_or(0);
                let ivs = output.get(32..).unwrap_or(&[]);
                let (client, server) = ivs.split_at(ivs.len() / 2);
                let bytes = (p.ulIVSizeInBits / 8) as usize;
                for (iv, target) in [(client, target.pIVClient), (server, target.pIVServer)] {
                    if !target.is_null() && iv.len() == bytes {
                        std::ptr::copy_nonoverlapping(iv.as_ptr(), target, bytes);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Where the IV goes that the module makes for C_WrapKeyAuthenticated: nothing unless the parameters
/// are CK_GCM_WRAP_PARAMS that ask for one.
///
/// # Safety
/// As `encode`.
pub unsafe fn generated_iv(mechanism: *const CK_MECHANISM) -> Option<(*mut u8, usize)> {
    // SAFETY: by this function's contract.
    unsafe {
        let mechanism = mechanism.as_ref()?;
        if mechanism.mechanism != CKM_AES_GCM {
            return None;
        }
        let p: CK_GCM_WRAP_PARAMS = structure(mechanism).ok()?;
        let given = p.ivGenerator == CKG_NO_GENERATE || p.pIv.is_null();
        (!given).then_some((p.pIv, p.ulIvLen as usize))
    }
}

fn handles(output: &[u8]) -> impl Iterator<Item = CK_OBJECT_HANDLE> + '_ {
    output
        .chunks_exact(8)
        .filter_map(|bytes| bytes.try_into().ok().map(CK_OBJECT_HANDLE::from_le_bytes))
}

unsafe fn give_version(target: *mut CK_VERSION, output: &[u8]) {
    // SAFETY: as in `give_back`.
    if let (Some(target), [major, minor, ..]) = (unsafe { target.as_mut() }, output) {
        *target = CK_VERSION {
            major: *major,
            minor: *minor,
        };
    }
}
