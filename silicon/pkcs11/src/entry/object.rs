//! Object management (PKCS#11 3.2, section 5.7).

use crate::outcome::entries;
use crate::output::store;
use crate::session::{Loss, request};
use crate::state::STATE;
use crate::templates;
use casemate_transport::message::Operation as Code;
use cryptoki_sys::*;

/// Handles that one answer carries: what a slot holds.
const FOUND_AT_ONCE: u64 = 1024;

entries! {
    fn C_CreateObject(
        session: CK_SESSION_HANDLE,
        template: *mut CK_ATTRIBUTE, count: CK_ULONG,
        object: *mut CK_OBJECT_HANDLE,
    ) {
        let mut session = STATE.session(session)?;
        if object.is_null() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        let template = templates::encode(template, count)?;
        let mut order = request(Code::CreateObject);
        order.data = &template;
        let answer = session.call(&mut order, Loss::Report, |_, _| {})?;
        store(object, answer.value0)
    }

    fn C_CopyObject(
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        template: *mut CK_ATTRIBUTE, count: CK_ULONG,
        copy: *mut CK_OBJECT_HANDLE,
    ) {
        let mut session = STATE.session(session)?;
        if copy.is_null() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        let template = templates::encode(template, count)?;
        let mut order = request(Code::CopyObject);
        order.header.object = object;
        order.data = &template;
        let answer = session.call(&mut order, Loss::Report, |_, _| {})?;
        store(copy, answer.value0)
    }

    fn C_DestroyObject(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE) {
        let mut session = STATE.session(session)?;
        let mut order = request(Code::DestroyObject);
        order.header.object = object;
        session.call(&mut order, Loss::Report, |_, _| {})?;
        Ok(())
    }

    fn C_GetObjectSize(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE, size: *mut CK_ULONG) {
        let mut session = STATE.session(session)?;
        if size.is_null() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        let mut question = request(Code::ObjectSize);
        question.header.object = object;
        let answer = session.call(&mut question, Loss::Repeat, |_, _| {})?;
        store(size, answer.value0)
    }

    fn C_GetAttributeValue(
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        template: *mut CK_ATTRIBUTE, count: CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        if template.is_null() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        let (query, room) = templates::query(template, count)?;
        let mut question = request(Code::GetAttributes);
        question.header.object = object;
        question.header.capacity =
            u32::try_from(room.min(casemate_transport::layout::MESSAGE_MAX)).unwrap_or(u32::MAX);
        question.data = &query;
        let mut result = CKR_OK;
        session.call(&mut question, Loss::Repeat, |_, answers| {
            result = templates::fill(template, count, answers);
        })?;
        crate::outcome::check(result)
    }

    fn C_SetAttributeValue(
        session: CK_SESSION_HANDLE,
        object: CK_OBJECT_HANDLE,
        template: *mut CK_ATTRIBUTE, count: CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        if template.is_null() {
            return Err(CKR_ARGUMENTS_BAD);
        }
        let template = templates::encode(template, count)?;
        let mut order = request(Code::SetAttributes);
        order.header.object = object;
        order.data = &template;
        session.call(&mut order, Loss::Report, |_, _| {})?;
        Ok(())
    }

    fn C_FindObjectsInit(session: CK_SESSION_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG) {
        let mut session = STATE.session(session)?;
        if session.found.is_some() {
            return Err(CKR_OPERATION_ACTIVE);
        }
        let template = templates::encode(template, count)?;
        let mut found = Vec::new();
        let mut cursor = 0;
        loop {
            let mut question = request(Code::FindObjects);
            question.header.object = cursor;
            question.header.aux = FOUND_AT_ONCE;
            question.header.capacity = 8 * FOUND_AT_ONCE as u32;
            question.data = &template;
            // Handles of session objects do not outlive a connection: a search begins anew there.
            let loss = if cursor == 0 { Loss::Repeat } else { Loss::Report };
            let answer = session.call(&mut question, loss, |_, output| {
                found.extend(
                    output
                        .chunks_exact(8)
                        .filter_map(|bytes| bytes.try_into().ok().map(u64::from_le_bytes)),
                );
            })?;
            cursor = answer.value0;
            if cursor == 0 {
                break;
            }
        }
        found.reverse();
        session.found = Some(found);
        Ok(())
    }

    fn C_FindObjects(
        session: CK_SESSION_HANDLE,
        objects: *mut CK_OBJECT_HANDLE, most: CK_ULONG,
        count: *mut CK_ULONG,
    ) {
        let mut session = STATE.session(session)?;
        let found = session.found.as_mut().ok_or(CKR_OPERATION_NOT_INITIALIZED)?;
        if count.is_null() || (objects.is_null() && most > 0) {
            return Err(CKR_ARGUMENTS_BAD);
        }
        let mut given = 0;
        while (given as CK_ULONG) < most {
            let Some(handle) = found.pop() else { break };
            std::ptr::write_unaligned(objects.add(given), handle);
            given += 1;
        }
        store(count, given as CK_ULONG)
    }

    fn C_FindObjectsFinal(session: CK_SESSION_HANDLE) {
        let mut session = STATE.session(session)?;
        session.found.take().map(|_| ()).ok_or(CKR_OPERATION_NOT_INITIALIZED)
    }
}
