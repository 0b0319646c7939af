//! P-384 for verifiers of evidence and makers of results: outside keys, no module's.
//!
//! Rust and not Python: AWS-LC verifies in less than half the time of the library that Python has,
//! and an appraisal is mostly verification. Python may run other threads meanwhile.

use casemate_engine::lc::ec::{Curve, PrivateKey, PublicKey};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

const DIGEST: usize = 48;
const SIGNATURE: usize = 96;

/// A public key, parsed once.
#[pyclass(frozen, module = "casemate._silicon")]
pub struct P384PublicKey(PublicKey);

#[pymethods]
impl P384PublicKey {
    #[new]
    fn new(point: &[u8]) -> PyResult<Self> {
        PublicKey::from_point(Curve::P384, point)
            .map(Self)
            .map_err(|_| PyValueError::new_err("the point is not on P-384"))
    }

    /// Whether r, s (96 bytes) is a signature over a SHA-384 digest; wrong sizes are not.
    fn verifies(&self, py: Python<'_>, digest: &[u8], signature: &[u8]) -> bool {
        digest.len() == DIGEST && py.detach(|| self.0.verify(digest, signature).is_ok())
    }
}

/// A private key of a verifier that stands alone.
#[pyclass(frozen, module = "casemate._silicon")]
pub struct P384PrivateKey(PrivateKey);

#[pymethods]
impl P384PrivateKey {
    #[new]
    fn new(scalar: &[u8]) -> PyResult<Self> {
        PrivateKey::from_scalar(Curve::P384, scalar)
            .map(Self)
            .map_err(|_| PyValueError::new_err("the scalar is no private key of P-384"))
    }

    /// A signature (r, s: 96 bytes) over a SHA-384 digest.
    fn sign<'py>(&self, py: Python<'py>, digest: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        if digest.len() != DIGEST {
            return Err(PyValueError::new_err("expected a digest of 48 bytes"));
        }
        let mut signature = [0; SIGNATURE];
        py.detach(|| self.0.sign(digest, &mut signature))
            .map_err(|_| PyValueError::new_err("the signature was not made"))?;
        Ok(PyBytes::new(py, &signature))
    }
}
