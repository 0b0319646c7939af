//! Message digests (PKCS#11 3.2, section 5.12).

use crate::outcome::entries;
use crate::output::{Output, input};
use crate::session::{Loss, request};
use crate::state::STATE;
use casemate_transport::message::{Operation as Code, Usage};
use cryptoki_sys::*;

entries! {
    fn C_DigestInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM) {
        STATE.session(session)?.begin(Usage::Digest, mechanism, 0)
    }

    fn C_Digest(
        session: CK_SESSION_HANDLE,
        data: *mut CK_BYTE, length: CK_ULONG,
        digest: *mut CK_BYTE, digest_length: *mut CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        session.single(Usage::Digest, input(data, length), Output::new(digest, digest_length))
    }

    fn C_DigestUpdate(session: CK_SESSION_HANDLE, data: *mut CK_BYTE, length: CK_ULONG) {
        STATE.session(session)?.update(Usage::Digest, input(data, length))
    }

    fn C_DigestKey(session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE) {
        let mut session = STATE.session(session)?;
        session.stream(Usage::Digest)?;
        let mut order = request(Code::StreamDigestKey);
        order.header.object = key;
        let outcome = session.call(&mut order, Loss::Report, |_, _| {}).map(|_| ());
        if outcome.is_err() {
            session.cancel(Usage::Digest);
        }
        outcome
    }

    fn C_DigestFinal(session: CK_SESSION_HANDLE, digest: *mut CK_BYTE, length: *mut CK_ULONG) {
        STATE.session(session)?.finish_into(Usage::Digest, Output::new(digest, length))
    }
}
