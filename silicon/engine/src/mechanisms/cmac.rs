//! AES-CMAC, whole and truncated (PKCS#11 3.2, section 6.15).

use cryptoki_sys::{CKK_AES, CKM_AES_CMAC, CKM_AES_CMAC_GENERAL};

use super::mac::{Mac, MacAlgorithm, MacState};
use super::{Mechanism, secret};
use crate::failure::Failure;
use crate::keys::{Key, SecretKey};
use crate::lc::aes::{BLOCK, Block};
use crate::lc::{self, Input, cmac};

/// The family's mechanisms.
pub const TABLE: &[&dyn Mechanism] = &[
    &Mac {
        kind: CKM_AES_CMAC,
        algorithm: Cmac,
        general: false,
    },
    &Mac {
        kind: CKM_AES_CMAC_GENERAL,
        algorithm: Cmac,
        general: true,
    },
];

struct Cmac;

impl MacAlgorithm for Cmac {
    type Value = Block;
    type State = cmac::Cmac;

    const SIZES: (u32, u32) = (16, 32);

    fn bytes(&self) -> usize {
        BLOCK
    }

    fn key<'a>(&self, key: Option<&'a Key>) -> Result<&'a SecretKey, Failure> {
        secret::of_type(key, &[CKK_AES])
    }

    fn mac(&self, key: &SecretKey, input: Input<'_>) -> Result<Block, lc::Error> {
        key.cmac()?.mac(input)
    }

    fn begin(&self, key: &SecretKey) -> Result<cmac::Cmac, lc::Error> {
        key.cmac()?.begin()
    }
}

impl MacState for cmac::Cmac {
    type Value = Block;

    fn update(&mut self, input: Input<'_>) -> Result<(), lc::Error> {
        cmac::Cmac::update(self, input)
    }

    fn finish(self) -> Result<Block, lc::Error> {
        cmac::Cmac::finish(self)
    }
}
