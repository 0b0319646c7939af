//! `casemate._silicon`: the engine for the firmware and the queue client for the API.
//!
//! Rust and not Python: it is the border itself, where Python handles meet key memory.

use pyo3::prelude::*;

mod base64url;
mod cbor;
mod client;
mod der;
mod engine;
mod pipeline;
mod root_of_trust;
mod verifier;
mod x509;

#[pymodule]
mod _silicon {
    #[pymodule_export]
    use super::base64url::base64url;
    #[pymodule_export]
    use super::cbor::read_cbor;
    #[pymodule_export]
    use super::client::{Client, LostError, Ticket, serve_proxy_peer};
    #[pymodule_export]
    use super::der::{Element, Reader};
    #[pymodule_export]
    use super::engine::{
        Change, Engine, EngineState, Partition, PartitionPolicy, PartitionStatus, Record,
        SelfTestResult,
    };
    #[pymodule_export]
    use super::root_of_trust::{
        RootOfTrustVault, mldsa87_public_key, mldsa87_sign, mldsa87_sign_mu, mldsa87_verify,
        mldsa87_verify_mu,
    };
    #[pymodule_export]
    use super::verifier::{P384PrivateKey, P384PublicKey};
    #[pymodule_export]
    use super::x509::certificate_parts;
}
