//! The slots: what a Caliptra key vault holds, addressed by number and never read back.
//!
//! Rust and not Python: it is the border that keeps a host's device secrets out of Python.
//!
//! A slot holds one thing: a secret (UDS, field entropy, CDI, ladder key), a P-384 private key or
//! an ML-DSA-87 key. Each operation names the kind it reads; the wrong kind is refused. What comes
//! out is public keys, signatures and the MAC of the CSR envelope; a secret can be handed to
//! another process only through [`Vault::to_descriptor`].

use super::drbg::HmacDrbg;
use super::mldsa;
use super::primitives::{aes256_cbc_decrypt, cmac_kdf, hmac, kdf};
use crate::lc::digest::Hash;
use crate::lc::{Error, Secret};
use ml_dsa::{MlDsa87, SigningKey as MldsaKey};
use p384::ecdsa::signature::hazmat::PrehashSigner;
use p384::ecdsa::{Signature, SigningKey};
use std::collections::BTreeMap;
use std::os::fd::{FromRawFd, OwnedFd};
use zeroize::Zeroizing;

/// The number of a slot; numbers are never used twice.
pub type Slot = u64;

/// The IV that the ROM gives to the de-obfuscation engine (caliptra-sw, rom/dev, idev_id.rs).
const DOE_IV: [u8; 16] = [
    0xfb, 0x10, 0x36, 0x5b, 0xa1, 0x17, 0x97, 0x41, 0xfb, 0xa1, 0x93, 0xa1, 0x0f, 0x40, 0x6d, 0x7e,
];
/// More than any flow holds at once: a leak is found before memory is gone.
const MOST_SLOTS: usize = 4096;

/// Why the vault refused.
#[derive(Debug, PartialEq, Eq)]
pub enum VaultError {
    /// No such slot: never filled, or erased.
    Empty(Slot),
    /// The slot holds something else: what the operation needs.
    Kind(Slot, &'static str),
    /// An argument has the wrong size: its name.
    Size(&'static str),
    /// Too many slots are in use.
    Full,
    /// The operating system refused: the call.
    System(&'static str),
    /// A primitive failed: that should not happen.
    Primitive(Error),
}

impl std::fmt::Display for VaultError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty(slot) => write!(f, "slot {slot} is empty"),
            Self::Kind(slot, needed) => write!(f, "slot {slot} does not hold {needed}"),
            Self::Size(name) => write!(f, "{name} has the wrong size"),
            Self::Full => write!(f, "all {MOST_SLOTS} slots are in use"),
            Self::System(call) => write!(f, "the operating system refused {call}"),
            Self::Primitive(error) => write!(f, "a step of the ladder failed: {error}"),
        }
    }
}

impl std::error::Error for VaultError {}

impl From<Error> for VaultError {
    fn from(error: Error) -> Self {
        Self::Primitive(error)
    }
}

/// What a chip has in its netlist: the key of the de-obfuscation engine (32 bytes) and that of the
/// CSR MAC (64).
pub struct DeviceSecrets {
    obfuscation_key: Secret,
    csr_mac_key: Secret,
}

impl DeviceSecrets {
    /// Copies the two keys, given one after the other.
    ///
    /// # Errors
    /// [`VaultError::Size`] unless there are 96 bytes.
    pub fn new(keys: &[u8]) -> Result<Self, VaultError> {
        match keys.split_at_checked(32) {
            Some((obfuscation_key, csr_mac_key)) if csr_mac_key.len() == 64 => Ok(Self {
                obfuscation_key: Secret::copy(obfuscation_key),
                csr_mac_key: Secret::copy(csr_mac_key),
            }),
            _ => Err(VaultError::Size("the device secrets")),
        }
    }
}

enum Content {
    Secret(Secret),
    Ecc(Box<SigningKey>),
    Mldsa(Box<MldsaKey<MlDsa87>>),
}

/// The slots of one root of trust; everything is wiped when it is dropped.
pub struct Vault {
    secrets: DeviceSecrets,
    slots: BTreeMap<Slot, Content>,
    next: Slot,
}

impl Vault {
    /// An empty vault over a device's secrets.
    #[must_use]
    pub fn new(secrets: DeviceSecrets) -> Self {
        Self {
            secrets,
            slots: BTreeMap::new(),
            next: 1,
        }
    }

    fn put(&mut self, content: Content) -> Result<Slot, VaultError> {
        if self.slots.len() >= MOST_SLOTS {
            return Err(VaultError::Full);
        }
        let slot = self.next;
        self.next += 1;
        self.slots.insert(slot, content);
        Ok(slot)
    }

    fn secret(&self, slot: Slot) -> Result<&[u8], VaultError> {
        match self.slots.get(&slot) {
            Some(Content::Secret(bytes)) => Ok(bytes.expose()),
            Some(_) => Err(VaultError::Kind(slot, "a secret")),
            None => Err(VaultError::Empty(slot)),
        }
    }

    fn hmac_key(&self, slot: Slot, hash: Hash) -> Result<&[u8], VaultError> {
        let key = self.secret(slot)?;
        match hash {
            // The accelerator reads only so much of a key-vault entry.
            Hash::Sha384 => Ok(key.get(..48).unwrap_or(key)),
            Hash::Sha512 => Ok(key),
            _ => Err(VaultError::Size("the hash")),
        }
    }

    fn ecc(&self, slot: Slot) -> Result<&SigningKey, VaultError> {
        match self.slots.get(&slot) {
            Some(Content::Ecc(key)) => Ok(key),
            Some(_) => Err(VaultError::Kind(slot, "a P-384 key")),
            None => Err(VaultError::Empty(slot)),
        }
    }

    fn mldsa(&self, slot: Slot) -> Result<&MldsaKey<MlDsa87>, VaultError> {
        match self.slots.get(&slot) {
            Some(Content::Mldsa(key)) => Ok(key),
            Some(_) => Err(VaultError::Kind(slot, "an ML-DSA-87 key")),
            None => Err(VaultError::Empty(slot)),
        }
    }

    /// Decrypts an obfuscated fuse value (UDS seed 64 bytes, field entropy 32) into a slot.
    ///
    /// With `debug_locked` false the key is all ones, as the chip wipes it when debug opens; the
    /// caller passes all ones for the fuse value too.
    ///
    /// # Errors
    /// [`VaultError::Size`] unless `value` is whole blocks.
    pub fn deobfuscate(&mut self, value: &[u8], debug_locked: bool) -> Result<Slot, VaultError> {
        if value.is_empty() || !value.len().is_multiple_of(16) || value.len() > 64 {
            return Err(VaultError::Size("the obfuscated value"));
        }
        let clear = if debug_locked {
            aes256_cbc_decrypt(self.secrets.obfuscation_key.expose(), &DOE_IV, value)?
        } else {
            aes256_cbc_decrypt(&[0xff; 32], &DOE_IV, value)?
        };
        self.put(Content::Secret(clear))
    }

    /// One block of the KDF into a new slot.
    ///
    /// # Errors
    /// The key slot is empty or holds a key pair.
    pub fn kdf(
        &mut self,
        hash: Hash,
        key: Slot,
        label: &[u8],
        context: Option<&[u8]>,
    ) -> Result<Slot, VaultError> {
        let output = kdf(hash, self.hmac_key(key, hash)?, label, context)?;
        self.put(Content::Secret(output))
    }

    /// The same KDF step `times` times over, each under the result of the one before.
    ///
    /// # Errors
    /// The key slot is empty or holds a key pair.
    pub fn kdf_chain(
        &mut self,
        hash: Hash,
        key: Slot,
        label: &[u8],
        times: u32,
    ) -> Result<Slot, VaultError> {
        let mut output = Secret::copy(self.secret(key)?);
        for _ in 0..times {
            let key = output.expose();
            let key = if hash == Hash::Sha384 {
                key.get(..48).unwrap_or(key)
            } else {
                key
            };
            output = kdf(hash, key, label, None)?;
        }
        self.put(Content::Secret(output))
    }

    /// A plain HMAC of public data into a new slot.
    ///
    /// # Errors
    /// The key slot is empty or holds a key pair.
    pub fn hmac(&mut self, hash: Hash, key: Slot, data: &[u8]) -> Result<Slot, VaultError> {
        let output = hmac(hash, self.hmac_key(key, hash)?, &[data])?;
        self.put(Content::Secret(output))
    }

    /// A plain HMAC of another slot's secret into a new slot.
    ///
    /// # Errors
    /// A slot is empty or holds a key pair.
    pub fn hmac_slot(&mut self, hash: Hash, key: Slot, data: Slot) -> Result<Slot, VaultError> {
        let output = hmac(hash, self.hmac_key(key, hash)?, &[self.secret(data)?])?;
        self.put(Content::Secret(output))
    }

    /// A stable key: AES-CMAC KDF under a root's first 32 bytes, then the HMAC KDF under a prefix;
    /// the words of the result are byte-swapped, as the firmware hands the key on.
    ///
    /// # Errors
    /// The root is empty, holds a key pair or less than 32 bytes.
    pub fn stable_key(
        &mut self,
        root: Slot,
        prefix: &[u8],
        info: &[u8],
    ) -> Result<Slot, VaultError> {
        let key = self
            .secret(root)?
            .get(..32)
            .ok_or(VaultError::Size("the root"))?;
        let inner = cmac_kdf(key, info)?;
        let label = [prefix, info].concat();
        let mut output = kdf(Hash::Sha512, inner.expose(), &label, None)?;
        for word in output.expose_mut().chunks_exact_mut(4) {
            word.reverse();
        }
        self.put(Content::Secret(output))
    }

    /// A P-384 key from a seed slot (its first 48 bytes): HMAC_DRBG with an all-zero nonce.
    ///
    /// # Errors
    /// The slot is empty, holds a key pair, or less than 48 bytes.
    pub fn ecc_key(&mut self, seed: Slot) -> Result<Slot, VaultError> {
        let entropy = self
            .secret(seed)?
            .get(..48)
            .ok_or(VaultError::Size("the seed"))?;
        let mut drbg = HmacDrbg::new(entropy, &[0; 48])?;
        loop {
            // Zero and values from the order up are no private keys: take the next block.
            if let Ok(key) = SigningKey::from_slice(drbg.generate()?.expose()) {
                return self.put(Content::Ecc(Box::new(key)));
            }
        }
    }

    /// An ML-DSA-87 key from a seed slot: its first 32 bytes in reverse order, as the key vault
    /// hands them to the accelerator.
    ///
    /// # Errors
    /// The slot is empty, holds a key pair, or less than 32 bytes.
    pub fn mldsa_key(&mut self, seed: Slot) -> Result<Slot, VaultError> {
        let bytes = self
            .secret(seed)?
            .get(..32)
            .ok_or(VaultError::Size("the seed"))?;
        let mut xi = Zeroizing::new([0u8; 32]);
        for (to, from) in xi.iter_mut().zip(bytes.iter().rev()) {
            *to = *from;
        }
        let key = mldsa::expand(&xi);
        self.put(Content::Mldsa(key))
    }

    /// The public key: 97 bytes (04, X, Y) for P-384, 2592 for ML-DSA-87.
    ///
    /// # Errors
    /// The slot is empty or holds a secret.
    pub fn public_key(&self, slot: Slot) -> Result<Vec<u8>, VaultError> {
        match self.slots.get(&slot) {
            Some(Content::Ecc(key)) => {
                Ok(key.verifying_key().to_sec1_point(false).as_bytes().to_vec())
            }
            Some(Content::Mldsa(key)) => Ok(mldsa::public_key(key)),
            Some(Content::Secret(_)) => Err(VaultError::Kind(slot, "a key pair")),
            None => Err(VaultError::Empty(slot)),
        }
    }

    /// A deterministic ECDSA signature (r, s: 96 bytes) over a SHA-384 digest (RFC 6979).
    ///
    /// # Errors
    /// The slot holds no P-384 key.
    pub fn ecc_sign_digest(&self, slot: Slot, digest: &[u8; 48]) -> Result<Vec<u8>, VaultError> {
        let signature: Signature = self
            .ecc(slot)?
            .sign_prehash(digest)
            .map_err(|_| VaultError::Size("the digest"))?;
        Ok(signature.to_bytes().to_vec())
    }

    /// A deterministic ML-DSA-87 signature (4627 bytes) over a message, empty context.
    ///
    /// # Errors
    /// The slot holds no ML-DSA-87 key.
    pub fn mldsa_sign(&self, slot: Slot, message: &[u8]) -> Result<Vec<u8>, VaultError> {
        mldsa::sign(self.mldsa(slot)?.expanded_key(), message, b"")
            .ok_or(VaultError::Size("the context"))
    }

    /// The same over an external mu (64 bytes).
    ///
    /// # Errors
    /// The slot holds no ML-DSA-87 key.
    pub fn mldsa_sign_mu(&self, slot: Slot, mu: &[u8; 64]) -> Result<Vec<u8>, VaultError> {
        Ok(mldsa::sign_mu(self.mldsa(slot)?.expanded_key(), mu))
    }

    /// HMAC-SHA512 of the CSR envelope under the device's CSR key (64 bytes).
    ///
    /// # Errors
    /// [`VaultError::Primitive`].
    pub fn csr_mac(&self, envelope: &[u8]) -> Result<Vec<u8>, VaultError> {
        let mac = hmac(Hash::Sha512, self.secrets.csr_mac_key.expose(), &[envelope])?;
        Ok(mac.expose().to_vec())
    }

    /// Hands a secret to another process: a sealed, close-on-exec memory file that holds it.
    ///
    /// The receiver reads it in silicon and closes it; Python passes the number on.
    ///
    /// # Errors
    /// The slot holds no secret, or the system refuses.
    pub fn to_descriptor(&self, slot: Slot) -> Result<OwnedFd, VaultError> {
        let bytes = self.secret(slot)?;
        // SAFETY: the name is a NUL-terminated literal; a good descriptor is owned from here on;
        // the write covers exactly `bytes`.
        unsafe {
            let raw = libc::memfd_create(
                c"casemate-secret".as_ptr(),
                libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING,
            );
            if raw < 0 {
                return Err(VaultError::System("memfd_create"));
            }
            let file = OwnedFd::from_raw_fd(raw);
            let wrote = libc::pwrite(raw, bytes.as_ptr().cast(), bytes.len(), 0);
            if usize::try_from(wrote) != Ok(bytes.len()) {
                return Err(VaultError::System("pwrite"));
            }
            let seals =
                libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
            if libc::fcntl(raw, libc::F_ADD_SEALS, seals) != 0 {
                return Err(VaultError::System("F_ADD_SEALS"));
            }
            Ok(file)
        }
    }

    /// Wipes a slot; an empty one stays empty.
    pub fn erase(&mut self, slot: Slot) {
        self.slots.remove(&slot);
    }

    /// How many slots are in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p384::ecdsa::VerifyingKey;
    use p384::ecdsa::signature::Verifier;

    fn vault() -> Vault {
        let keys: Vec<u8> = (0..96).collect();
        Vault::new(DeviceSecrets::new(&keys).unwrap())
    }

    #[test]
    fn a_layer_from_fuses_to_signatures() {
        let mut vault = vault();
        let uds = vault.deobfuscate(&[1; 64], true).unwrap();
        let cdi = vault.kdf(Hash::Sha512, uds, b"idevid_cdi", None).unwrap();
        vault.erase(uds);
        let seed = vault
            .kdf(Hash::Sha512, cdi, b"idevid_ecc_key", None)
            .unwrap();
        let key = vault.ecc_key(seed).unwrap();
        let digest = super::super::primitives::sha384(b"tbs").unwrap();
        let public = VerifyingKey::from_sec1_bytes(&vault.public_key(key).unwrap()).unwrap();
        let signature =
            Signature::from_slice(&vault.ecc_sign_digest(key, &digest).unwrap()).unwrap();
        public.verify(b"tbs", &signature).unwrap();
        assert_eq!(
            vault.ecc_sign_digest(key, &digest),
            vault.ecc_sign_digest(key, &digest)
        );

        let seed = vault
            .kdf(Hash::Sha512, cdi, b"idevid_mldsa_key", None)
            .unwrap();
        let key = vault.mldsa_key(seed).unwrap();
        let public = vault.public_key(key).unwrap();
        let signature = vault.mldsa_sign(key, b"tbs").unwrap();
        assert!(super::super::mldsa87_verify(
            &public, b"tbs", b"", &signature
        ));
        assert_eq!(vault.used(), 5);
    }

    #[test]
    fn device_secrets_have_one_size() {
        for size in [0, 31, 95, 97] {
            assert!(DeviceSecrets::new(&vec![1; size]).is_err());
        }
    }

    #[test]
    fn wrong_kinds_and_empty_slots_are_refused() {
        let mut vault = vault();
        let secret = vault.deobfuscate(&[1; 64], true).unwrap();
        let key = vault.ecc_key(secret).unwrap();
        assert_eq!(
            vault.public_key(secret),
            Err(VaultError::Kind(secret, "a key pair"))
        );
        assert_eq!(
            vault.kdf(Hash::Sha512, key, b"x", None),
            Err(VaultError::Kind(key, "a secret"))
        );
        assert_eq!(
            vault.mldsa_sign(key, b""),
            Err(VaultError::Kind(key, "an ML-DSA-87 key"))
        );
        vault.erase(key);
        assert_eq!(vault.public_key(key), Err(VaultError::Empty(key)));
        assert_eq!(
            vault.deobfuscate(&[0; 15], true),
            Err(VaultError::Size("the obfuscated value"))
        );
    }

    #[test]
    fn debug_unlock_changes_the_secret() {
        let mut vault = vault();
        let mut public = |locked| {
            let uds = vault.deobfuscate(&[1; 64], locked).unwrap();
            let key = vault.ecc_key(uds).unwrap();
            vault.public_key(key).unwrap()
        };
        assert_ne!(public(true), public(false));
    }

    #[test]
    fn a_secret_travels_by_sealed_descriptor() {
        use std::os::fd::AsRawFd;
        let mut vault = vault();
        let secret = vault.deobfuscate(&[1; 64], true).unwrap();
        let file = vault.to_descriptor(secret).unwrap();
        let mut buffer = [0u8; 128];
        let raw = file.as_raw_fd();
        let got = unsafe { libc::pread(raw, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        assert_eq!(got, 64);
        let wrote = unsafe { libc::pwrite(raw, buffer.as_ptr().cast(), 1, 0) };
        assert_eq!(wrote, -1);
    }
}
