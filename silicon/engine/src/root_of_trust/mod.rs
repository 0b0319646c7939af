//! The key vault of a host's root of trust: unique device secret, CDIs and layer keys by handle.
//!
//! Rust and not Python: these secrets exist only here; Python orders the steps of the DICE ladder
//! (`casemate.rot`) and sees slot numbers, public keys, signatures and MACs. The steps themselves
//! are those of Caliptra 2.x (public sources: chipsalliance/caliptra-sw, rom/dev and fmc). Secrets
//! stand in locked memory where the arena is installed; expanded key pairs lie on the heap and are
//! wiped when dropped.

mod anchor;
mod drbg;
mod mldsa;
mod primitives;
mod vault;

pub use anchor::{ANCHOR_SIZE, AnchorError, create_anchor, read_anchor};
pub use mldsa::{
    MLDSA87_PUBLIC_KEY_SIZE, MLDSA87_SEED_SIZE, MLDSA87_SIGNATURE_SIZE, mldsa87_public_key,
    mldsa87_sign, mldsa87_sign_mu, mldsa87_verify, mldsa87_verify_mu,
};
pub use vault::{DeviceSecrets, Slot, Vault, VaultError};
