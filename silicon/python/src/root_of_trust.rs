//! Binding of the root of trust's vault: slot numbers in, slot numbers and public values out.
//!
//! Rust and not Python: it is the border that no device secret crosses.

use casemate_engine::arena::{self, process};
use casemate_engine::lc::digest::Hash;
use casemate_engine::root_of_trust as engine;
use engine::Slot;
use pyo3::exceptions::{PyOSError, PyPermissionError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::os::fd::IntoRawFd;
use std::path::PathBuf;

fn vault_error(error: engine::VaultError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn anchor_error(error: engine::AnchorError) -> PyErr {
    match error {
        engine::AnchorError::Io(error) => error.into(),
        engine::AnchorError::Permissions(_) => PyPermissionError::new_err(error.to_string()),
        engine::AnchorError::Damaged(_) => PyValueError::new_err(error.to_string()),
    }
}

fn array<const N: usize>(name: &str, bytes: &[u8]) -> PyResult<[u8; N]> {
    bytes.try_into().map_err(|_| {
        PyValueError::new_err(format!("{name}: expected {N} bytes, found {}", bytes.len()))
    })
}

fn hash(bits: u16) -> PyResult<Hash> {
    match bits {
        384 => Ok(Hash::Sha384),
        512 => Ok(Hash::Sha512),
        _ => Err(PyValueError::new_err(format!(
            "hash: expected 384 or 512, found {bits}"
        ))),
    }
}

#[pyclass(name = "RootOfTrustVault", module = "casemate._silicon")]
pub struct RootOfTrustVault(engine::Vault);

#[pymethods]
impl RootOfTrustVault {
    #[staticmethod]
    fn create_anchor(path: PathBuf) -> PyResult<()> {
        engine::create_anchor(&path).map_err(anchor_error)
    }

    #[staticmethod]
    #[pyo3(signature = (anchor, *, require_locked=false))]
    fn open(anchor: PathBuf, require_locked: bool) -> PyResult<Self> {
        process::harden().map_err(|error| {
            PyOSError::new_err(format!("core dumps cannot be forbidden: {error}"))
        })?;
        arena::install(require_locked).map_err(PyOSError::new_err)?;
        Ok(Self(engine::Vault::new(
            engine::read_anchor(&anchor).map_err(anchor_error)?,
        )))
    }

    fn deobfuscate(&mut self, value: &[u8], debug_locked: bool) -> PyResult<Slot> {
        self.0.deobfuscate(value, debug_locked).map_err(vault_error)
    }

    #[pyo3(signature = (bits, key, label, context=None))]
    fn kdf(
        &mut self,
        bits: u16,
        key: Slot,
        label: &[u8],
        context: Option<&[u8]>,
    ) -> PyResult<Slot> {
        self.0
            .kdf(hash(bits)?, key, label, context)
            .map_err(vault_error)
    }

    fn kdf_chain(&mut self, bits: u16, key: Slot, label: &[u8], times: u32) -> PyResult<Slot> {
        if times > 4096 {
            return Err(PyValueError::new_err("times: expected at most 4096"));
        }
        self.0
            .kdf_chain(hash(bits)?, key, label, times)
            .map_err(vault_error)
    }

    fn hmac(&mut self, bits: u16, key: Slot, data: &[u8]) -> PyResult<Slot> {
        self.0.hmac(hash(bits)?, key, data).map_err(vault_error)
    }

    fn hmac_slot(&mut self, bits: u16, key: Slot, data: Slot) -> PyResult<Slot> {
        self.0
            .hmac_slot(hash(bits)?, key, data)
            .map_err(vault_error)
    }

    fn stable_key(&mut self, root: Slot, prefix: &[u8], info: &[u8]) -> PyResult<Slot> {
        self.0.stable_key(root, prefix, info).map_err(vault_error)
    }

    fn ecc_key(&mut self, seed: Slot) -> PyResult<Slot> {
        self.0.ecc_key(seed).map_err(vault_error)
    }

    fn mldsa_key(&mut self, seed: Slot) -> PyResult<Slot> {
        self.0.mldsa_key(seed).map_err(vault_error)
    }

    fn public_key<'py>(&self, py: Python<'py>, key: Slot) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(
            py,
            &self.0.public_key(key).map_err(vault_error)?,
        ))
    }

    fn ecc_sign_digest<'py>(
        &self,
        py: Python<'py>,
        key: Slot,
        digest: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let digest = array("digest", digest)?;
        Ok(PyBytes::new(
            py,
            &self.0.ecc_sign_digest(key, &digest).map_err(vault_error)?,
        ))
    }

    fn mldsa_sign<'py>(
        &self,
        py: Python<'py>,
        key: Slot,
        message: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(
            py,
            &self.0.mldsa_sign(key, message).map_err(vault_error)?,
        ))
    }

    fn mldsa_sign_mu<'py>(
        &self,
        py: Python<'py>,
        key: Slot,
        mu: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let mu = array("mu", mu)?;
        Ok(PyBytes::new(
            py,
            &self.0.mldsa_sign_mu(key, &mu).map_err(vault_error)?,
        ))
    }

    fn csr_mac<'py>(&self, py: Python<'py>, envelope: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(
            py,
            &self.0.csr_mac(envelope).map_err(vault_error)?,
        ))
    }

    fn to_descriptor(&self, key: Slot) -> PyResult<i32> {
        match self.0.to_descriptor(key) {
            Ok(file) => Ok(file.into_raw_fd()),
            Err(error @ engine::VaultError::System(_)) => {
                Err(PyOSError::new_err(error.to_string()))
            }
            Err(error) => Err(vault_error(error)),
        }
    }

    fn erase(&mut self, key: Slot) {
        self.0.erase(key);
    }

    fn used(&self) -> usize {
        self.0.used()
    }
}

#[pyfunction]
pub fn mldsa87_public_key<'py>(py: Python<'py>, seed: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(
        py,
        &engine::mldsa87_public_key(&array("seed", seed)?),
    ))
}

#[pyfunction]
#[pyo3(signature = (seed, message, context=None))]
pub fn mldsa87_sign<'py>(
    py: Python<'py>,
    seed: &[u8],
    message: &[u8],
    context: Option<&[u8]>,
) -> PyResult<Bound<'py, PyBytes>> {
    let seed = array("seed", seed)?;
    engine::mldsa87_sign(&seed, message, context.unwrap_or_default())
        .map(|signature| PyBytes::new(py, &signature))
        .ok_or_else(|| PyValueError::new_err("context: expected at most 255 bytes"))
}

#[pyfunction]
pub fn mldsa87_sign_mu<'py>(
    py: Python<'py>,
    seed: &[u8],
    mu: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let signature = engine::mldsa87_sign_mu(&array("seed", seed)?, &array("mu", mu)?);
    Ok(PyBytes::new(py, &signature))
}

#[pyfunction]
#[pyo3(signature = (public_key, message, signature, context=None))]
pub fn mldsa87_verify(
    public_key: &[u8],
    message: &[u8],
    signature: &[u8],
    context: Option<&[u8]>,
) -> bool {
    engine::mldsa87_verify(public_key, message, context.unwrap_or_default(), signature)
}

#[pyfunction]
pub fn mldsa87_verify_mu(public_key: &[u8], mu: &[u8], signature: &[u8]) -> PyResult<bool> {
    Ok(engine::mldsa87_verify_mu(
        public_key,
        &array("mu", mu)?,
        signature,
    ))
}
