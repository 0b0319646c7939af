//! Key management (PKCS#11 3.2, section 5.18): generate, wrap, unwrap, derive, encapsulate.

use crate::flights::Function;
use crate::mechanism;
use crate::outcome::{Outcome, entries};
use crate::output::{Output, input, store};
use crate::session::{Loss, Session, request};
use crate::state::STATE;
use crate::templates;
use casemate_transport::client::Request;
use casemate_transport::layout::MESSAGE_MAX;
use casemate_transport::message::{FLAG_LENGTH_ONLY, Operation as Code};
use cryptoki_sys::*;

/// The longest wrapped key or ciphertext of a key.
const WRAPPED_MAX: usize = 16 * 1024;
/// What a derivation gives beside the key.
const DERIVED_MAX: u32 = 1024;

/// A request with its mechanism.
///
/// # Safety
/// As `mechanism::encode`.
unsafe fn with_mechanism<'a>(
    code: Code,
    mechanism: *const CK_MECHANISM,
    parameters: &'a mut Vec<u8>,
) -> Outcome<Request<'a>> {
    // SAFETY: by this function's contract.
    let encoded = unsafe { mechanism::encode(mechanism, parameters)? };
    let mut order = request(code);
    order.header.mechanism = encoded.kind;
    order.parameters = parameters;
    Ok(order)
}

/// Sends a request whose output goes to the caller, who may ask for the length only.
fn give(
    session: &mut Session,
    order: &mut Request<'_>,
    loss: Loss,
    output: &Output,
) -> Outcome<u64> {
    if output.length_only() {
        order.header.flags = FLAG_LENGTH_ONLY;
        let answer = session.call(order, Loss::Repeat, |_, _| {})?;
        output.tell(answer.output);
        return Ok(0);
    }
    let answer = session.call_into(order, loss, &output.limited(WRAPPED_MAX))?;
    Ok(answer.value0)
}

entries! {
    fn C_GenerateKey(
        session: CK_SESSION_HANDLE,
        mechanism: *mut CK_MECHANISM,
        template: *mut CK_ATTRIBUTE, count: CK_ULONG,
        key: *mut CK_OBJECT_HANDLE,
    ) {
        let mut session = STATE.session(session)?;
        if key.is_null() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        let template = templates::encode(template, count)?;
        let mut parameters = Vec::new();
        let mut order = with_mechanism(Code::GenerateKey, mechanism, &mut parameters)?;
        order.data = &template;
        let answer = session.call_or_depart(Function::GenerateKey, &mut order)?;
        store(key, answer.value0)
    }

    fn C_GenerateKeyPair(
        session: CK_SESSION_HANDLE,
        mechanism: *mut CK_MECHANISM,
        public_template: *mut CK_ATTRIBUTE, public_count: CK_ULONG,
        private_template: *mut CK_ATTRIBUTE, private_count: CK_ULONG,
        public_key: *mut CK_OBJECT_HANDLE,
        private_key: *mut CK_OBJECT_HANDLE,
    ) {
        let mut session = STATE.session(session)?;
        if public_key.is_null() || private_key.is_null() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        let public = templates::encode(public_template, public_count)?;
        let private = templates::encode(private_template, private_count)?;
        let mut parameters = Vec::new();
        let mut order = with_mechanism(Code::GenerateKeyPair, mechanism, &mut parameters)?;
        order.first = &public;
        order.data = &private;
        let answer = session.call_or_depart(Function::GenerateKeyPair, &mut order)?;
        store(public_key, answer.value0)?;
        store(private_key, answer.value1)
    }

    fn C_WrapKey(
        session: CK_SESSION_HANDLE,
        mechanism: *mut CK_MECHANISM,
        wrapping_key: CK_OBJECT_HANDLE,
        key: CK_OBJECT_HANDLE,
        wrapped: *mut CK_BYTE, length: *mut CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        let output = Output::new(wrapped, length)?;
        let mut parameters = Vec::new();
        let mut order = with_mechanism(Code::WrapKey, mechanism, &mut parameters)?;
        order.header.object = wrapping_key;
        order.header.aux = key;
        give(&mut session, &mut order, Loss::Repeat, &output)?;
        Ok(())
    }

    fn C_UnwrapKey(
        session: CK_SESSION_HANDLE,
        mechanism: *mut CK_MECHANISM,
        unwrapping_key: CK_OBJECT_HANDLE,
        wrapped: *mut CK_BYTE, length: CK_ULONG,
        template: *mut CK_ATTRIBUTE, count: CK_ULONG,
        key: *mut CK_OBJECT_HANDLE,
    ) {
        let mut session = STATE.session(session)?;
        let wrapped = input(wrapped, length)?;
        if key.is_null() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        if wrapped.len() > MESSAGE_MAX {
            return Err(CKR_WRAPPED_KEY_LEN_RANGE);
        }
        let template = templates::encode(template, count)?;
        let mut parameters = Vec::new();
        let mut order = with_mechanism(Code::UnwrapKey, mechanism, &mut parameters)?;
        order.header.object = unwrapping_key;
        order.first = &template;
        order.data = wrapped;
        let answer = session.call_or_depart(Function::UnwrapKey, &mut order)?;
        store(key, answer.value0)
    }

    fn C_DeriveKey(
        session: CK_SESSION_HANDLE,
        mechanism: *mut CK_MECHANISM,
        base_key: CK_OBJECT_HANDLE,
        template: *mut CK_ATTRIBUTE, count: CK_ULONG,
        key: *mut CK_OBJECT_HANDLE,
    ) {
        let mut session = STATE.session(session)?;
        let template = templates::encode(template, count)?;
        let mut parameters = Vec::new();
        let mut order = with_mechanism(Code::DeriveKey, mechanism, &mut parameters)?;
        // These mechanisms give their keys through the parameters.
        let elsewhere = matches!(
            order.header.mechanism,
            CKM_TLS12_KEY_AND_MAC_DERIVE | CKM_TLS12_KEY_SAFE_DERIVE
        );
        if key.is_null() && !elsewhere {
            return Err(CKR_ARGUMENTS_BAD);
        }
        order.header.object = base_key;
        order.header.capacity = DERIVED_MAX;
        order.data = &template;
        let mut beside = Ok(());
        let answer = session.call(&mut order, Loss::Report, |_, output| {
            beside = mechanism::give_back(mechanism, output);
        })?;
        beside?;
        if key.is_null() { Ok(()) } else { store(key, answer.value0) }
    }

    fn C_EncapsulateKey(
        session: CK_SESSION_HANDLE,
        mechanism: *mut CK_MECHANISM,
        public_key: CK_OBJECT_HANDLE,
        template: *mut CK_ATTRIBUTE, count: CK_ULONG,
        ciphertext: *mut CK_BYTE, length: *mut CK_ULONG,
        key: *mut CK_OBJECT_HANDLE,
    ) {
        let mut session = STATE.session(session)?;
        let output = Output::new(ciphertext, length)?;
        if key.is_null() && !output.length_only() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        let template = templates::encode(template, count)?;
        let mut parameters = Vec::new();
        let mut order = with_mechanism(Code::EncapsulateKey, mechanism, &mut parameters)?;
        order.header.object = public_key;
        order.data = &template;
        let handle = give(&mut session, &mut order, Loss::Report, &output)?;
        if output.length_only() { Ok(()) } else { store(key, handle) }
    }

    fn C_DecapsulateKey(
        session: CK_SESSION_HANDLE,
        mechanism: *mut CK_MECHANISM,
        private_key: CK_OBJECT_HANDLE,
        template: *mut CK_ATTRIBUTE, count: CK_ULONG,
        ciphertext: *mut CK_BYTE, length: CK_ULONG,
        key: *mut CK_OBJECT_HANDLE,
    ) {
        let mut session = STATE.session(session)?;
        let ciphertext = input(ciphertext, length)?;
        if key.is_null() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        let template = templates::encode(template, count)?;
        let mut parameters = Vec::new();
        let mut order = with_mechanism(Code::DecapsulateKey, mechanism, &mut parameters)?;
        order.header.object = private_key;
        order.first = &template;
        order.data = ciphertext;
        let answer = session.call_or_depart(Function::DecapsulateKey, &mut order)?;
        store(key, answer.value0)
    }

    fn C_WrapKeyAuthenticated(
        session: CK_SESSION_HANDLE,
        mechanism: *mut CK_MECHANISM,
        wrapping_key: CK_OBJECT_HANDLE,
        key: CK_OBJECT_HANDLE,
        associated: *mut CK_BYTE, associated_length: CK_ULONG,
        wrapped: *mut CK_BYTE, length: *mut CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        let output = Output::new(wrapped, length)?;
        let associated = input(associated, associated_length)?;
        let mut parameters = Vec::new();
        let mut order = with_mechanism(Code::WrapKeyAuthenticated, mechanism, &mut parameters)?;
        order.header.object = wrapping_key;
        order.header.aux = key;
        order.first = associated;
        let Some((iv, iv_length)) = mechanism::generated_iv(mechanism) else {
            give(&mut session, &mut order, Loss::Repeat, &output)?;
            return Ok(());
        };
        if output.length_only() {
            order.header.flags = FLAG_LENGTH_ONLY;
            let answer = session.call(&mut order, Loss::Repeat, |_, _| {})?;
            output.tell(answer.output.saturating_sub(iv_length as u64));
            return Ok(());
        }
        // The module's IV stands behind the wrapped key.
        order.header.capacity = WRAPPED_MAX as u32;
        let mut needed = None;
        session.call(&mut order, Loss::Repeat, |_, bytes| {
            let (key, made) = bytes.split_at(bytes.len().saturating_sub(iv_length));
            if made.len() == iv_length && output.write(key) {
                std::ptr::copy_nonoverlapping(made.as_ptr(), iv, iv_length);
            } else {
                needed = Some(key.len());
            }
        })?;
        match needed {
            None => Ok(()),
            Some(length) => {
                output.tell(length as u64);
                Err(CKR_BUFFER_TOO_SMALL)
            }
        }
    }

    fn C_UnwrapKeyAuthenticated(
        session: CK_SESSION_HANDLE,
        mechanism: *mut CK_MECHANISM,
        unwrapping_key: CK_OBJECT_HANDLE,
        wrapped: *mut CK_BYTE, length: CK_ULONG,
        template: *mut CK_ATTRIBUTE, count: CK_ULONG,
        associated: *mut CK_BYTE, associated_length: CK_ULONG,
        key: *mut CK_OBJECT_HANDLE,
    ) {
        let mut session = STATE.session(session)?;
        let wrapped = input(wrapped, length)?;
        let associated = input(associated, associated_length)?;
        if key.is_null() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        let template = templates::encode(template, count)?;
        let mut parameters = Vec::new();
        let mut order = with_mechanism(Code::UnwrapKeyAuthenticated, mechanism, &mut parameters)?;
        order.header.object = unwrapping_key;
        order.first = &template;
        order.second = associated;
        order.data = wrapped;
        let answer = session.call_or_depart(Function::UnwrapKeyAuthenticated, &mut order)?;
        store(key, answer.value0)
    }
}
