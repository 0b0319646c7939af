//! The generation of key pairs: one mechanism, of which each family says how its pairs are made.

use cryptoki_sys::{CK_FLAGS, CK_MECHANISM_TYPE, CKF_GENERATE_KEY_PAIR};

use super::{Environment, Info, Made, Mechanism, secret};
use crate::attributes::Attributes;
use crate::failure::Failure;

/// A key pair: public, private.
pub type Pair = (Made, Made);

/// A generation of key pairs of one family.
pub struct PairGeneration {
    /// The mechanism.
    pub kind: CK_MECHANISM_TYPE,
    /// Smallest and largest key, as in `Info`.
    pub sizes: (u32, u32),
    /// CKF_... bits besides CKF_GENERATE_KEY_PAIR.
    pub flags: CK_FLAGS,
    /// Makes a pair as the template of the public key asks.
    pub make: fn(&dyn Environment, &Attributes) -> Result<Pair, Failure>,
}

impl Mechanism for PairGeneration {
    fn kind(&self) -> CK_MECHANISM_TYPE {
        self.kind
    }

    fn info(&self) -> Info {
        Info {
            min: self.sizes.0,
            max: self.sizes.1,
            flags: CKF_GENERATE_KEY_PAIR | self.flags,
        }
    }

    fn generate_pair(
        &self,
        environment: &dyn Environment,
        parameters: &[u8],
        public: &Attributes,
        _: &Attributes,
    ) -> Result<Pair, Failure> {
        secret::none(parameters)?;
        (self.make)(environment, public)
    }
}
