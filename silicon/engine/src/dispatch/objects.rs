//! Objects: create, copy, destroy, attributes, find (PKCS#11 3.2, section 5.7).

use std::sync::Arc;

use casemate_transport::attributes::{Answer, Status, decode_query, encode_answer};
use casemate_transport::message::Operation;
use cryptoki_sys::*;

use super::{Call, Outcome, Result};
use crate::attributes::Attributes;
use crate::connection::Login;
use crate::control::{Record, RecordKey, RecordKind};
use crate::failure::Failure;
use crate::keys::Key;
use crate::object::{Object, Owner};
use crate::template::{self, Origin};

/// Objects that a search looks at before it lets others change them.
const FIND_PAGE: usize = 256;

impl Call<'_> {
    pub(super) fn manage_object(&mut self, operation: Operation) -> Result<Outcome> {
        match operation {
            Operation::CreateObject => self.create_object(),
            Operation::CopyObject => self.copy_object(),
            Operation::DestroyObject => self.destroy_object(),
            Operation::ObjectSize => {
                self.require_session()?;
                let object = self.object(self.header.object)?;
                Ok(Outcome::Values(object.attributes.encode().len() as u64, 0))
            }
            Operation::GetAttributes => self.get_attributes(),
            Operation::SetAttributes => self.set_attributes(),
            _ => self.find_objects(),
        }
    }

    /// The template in the data section.
    pub(super) fn template(&self) -> Result<Attributes> {
        decode(self.data().expose())
    }

    fn create_object(&mut self) -> Result<Outcome> {
        let mut attributes = self.template()?;
        let class = attributes
            .number(CKA_CLASS)?
            .ok_or(Failure::new(CKR_TEMPLATE_INCOMPLETE))?;
        if !matches!(
            class,
            CKO_DATA | CKO_CERTIFICATE | CKO_PUBLIC_KEY | CKO_PRIVATE_KEY | CKO_SECRET_KEY
        ) {
            return Err(CKR_ATTRIBUTE_VALUE_INVALID.into());
        }
        template::check(class, &attributes)?;
        let key = match class {
            CKO_DATA => None,
            CKO_CERTIFICATE => {
                for kind in [CKA_CERTIFICATE_TYPE, CKA_VALUE] {
                    if !attributes.contains(kind) {
                        return Err(CKR_TEMPLATE_INCOMPLETE.into());
                    }
                }
                None
            }
            _ => {
                let kind = attributes
                    .number(CKA_KEY_TYPE)?
                    .ok_or(Failure::new(CKR_TEMPLATE_INCOMPLETE))?;
                Some(Key::import(class, kind, &mut attributes)?)
            }
        };
        template::complete(class, Origin::Created, &mut attributes);
        self.add_objects("create an object", vec![(attributes, key)], Vec::new())
    }

    /// Makes objects visible: at once for session objects, by way of the firmware when a token
    /// object is among them. All or none; answers with the first two handles and `output`.
    pub(super) fn add_objects(
        &mut self,
        operation: &'static str,
        made: Vec<(Attributes, Option<Key>)>,
        output: Vec<u8>,
    ) -> Result<Outcome> {
        self.add_objects_with(operation, made, |handles| {
            let handle = |index: usize| handles.get(index).copied().unwrap_or(0);
            (output, handle(0), handle(1))
        })
    }

    /// The same, with an answer (output and two values) made from all handles.
    pub(super) fn add_objects_with(
        &mut self,
        operation: &'static str,
        made: Vec<(Attributes, Option<Key>)>,
        answer: impl FnOnce(&[u64]) -> (Vec<u8>, u64, u64),
    ) -> Result<Outcome> {
        let session = self.session()?;
        self.partition.require_room(made.len() as u64)?;
        let mut objects = Vec::with_capacity(made.len());
        let mut records = Vec::new();
        for (mut attributes, key) in made {
            let token = attributes.is_true(CKA_TOKEN);
            self.require_creation(&session, &attributes)?;
            if let Some(key) = &key
                && !self.policy.legacy_test
            {
                key.require_current()?;
            }
            let handle = self.partition.new_handle(token);
            attributes.set(CKA_UNIQUE_ID, format!("{handle:016x}").as_bytes());
            let owner = (!token).then_some(Owner {
                connection: self.connection.id,
                session: session.id,
            });
            let object = Object::new(handle, owner, attributes, key.map(Arc::new), 1);
            if token {
                records.push(self.record_of(&object)?);
            }
            objects.push(object);
        }
        let handles: Vec<u64> = objects
            .iter()
            .map(|object: &Object| object.handle)
            .collect();
        let (output, value0, value1) = answer(&handles);
        let partition = self.partition.clone();
        let connection = self.connection.clone();
        let apply = move || {
            for object in objects {
                let (handle, owned) = (object.handle, object.owner.is_some());
                partition.insert(object);
                // A session that was closed meanwhile has taken its objects along; not this one.
                if owned && !connection.sessions().contains_key(&session.id) {
                    partition.remove(handle);
                }
            }
            Ok(Outcome::Bytes(output, value0, value1))
        };
        if records.is_empty() {
            apply()
        } else {
            self.defer(operation, records, apply)
        }
    }

    pub(super) fn require_creation(
        &self,
        session: &crate::session::Session,
        attributes: &Attributes,
    ) -> Result<()> {
        if attributes.is_true(CKA_PRIVATE) && !self.sees_private() {
            return Err(CKR_USER_NOT_LOGGED_IN.into());
        }
        if attributes.is_true(CKA_TOKEN) && !session.read_write {
            return Err(CKR_SESSION_READ_ONLY.into());
        }
        if attributes.is_true(CKA_TRUSTED) && self.connection.login() != Login::SecurityOfficer {
            return Err(CKR_ATTRIBUTE_READ_ONLY.into());
        }
        Ok(())
    }

    fn record_of(&self, object: &Object) -> Result<Record> {
        let key = RecordKey {
            kind: RecordKind::Object,
            id: object.handle,
        };
        self.partition
            .ledger
            .record(key, object.generation, object.to_record()?.expose())
    }

    fn copy_object(&mut self) -> Result<Outcome> {
        let object = self.object(self.header.object)?;
        let changes = self.template()?;
        if !object.attributes.is_true(CKA_COPYABLE) {
            return Err(CKR_ACTION_PROHIBITED.into());
        }
        template::check_change(object.class, &object.attributes, &changes, true)?;
        let mut attributes = object.attributes.clone();
        if attributes.is_true(CKA_PRIVATE) && changes.boolean(CKA_PRIVATE)? == Some(false) {
            return Err(CKR_TEMPLATE_INCONSISTENT.into());
        }
        changes
            .iter()
            .for_each(|(kind, value)| attributes.set(kind, value));
        let key = if object.is_key() {
            Some(Key::from_stored(
                object.class,
                object.key_type,
                &attributes,
                object.stored()?.expose(),
            )?)
        } else {
            None
        };
        self.add_objects("copy an object", vec![(attributes, key)], Vec::new())
    }

    fn require_change(&self, object: &Object) -> Result<()> {
        let session = self.session()?;
        if object.is_token() && !session.read_write {
            return Err(CKR_SESSION_READ_ONLY.into());
        }
        Ok(())
    }

    /// Decryption, wrapping and unwrapping are given at a key's creation or never: a key that wraps
    /// now and decrypts later would give away what it wrapped.
    fn require_no_new_power(&self, object: &Object, changes: &Attributes) -> Result<()> {
        let powers = [CKA_DECRYPT, CKA_WRAP, CKA_UNWRAP];
        let gains = powers
            .into_iter()
            .any(|kind| changes.get(kind) == Some(&[1]) && !object.attributes.is_true(kind));
        if gains && object.attributes.is_true(CKA_SENSITIVE) && !self.policy.legacy_test {
            return Err(CKR_ATTRIBUTE_READ_ONLY.into());
        }
        Ok(())
    }

    fn destroy_object(&mut self) -> Result<Outcome> {
        let object = self.object(self.header.object)?;
        self.require_change(&object)?;
        if !object.attributes.is_true(CKA_DESTROYABLE) {
            return Err(CKR_ACTION_PROHIBITED.into());
        }
        let partition = self.partition.clone();
        let handle = object.handle;
        let apply = move || {
            partition.remove(handle);
            Ok(Outcome::Values(0, 0))
        };
        if !object.is_token() {
            return apply();
        }
        let record = Record {
            key: RecordKey {
                kind: RecordKind::Object,
                id: handle,
            },
            generation: object.generation + 1,
            blob: None,
        };
        self.defer("destroy an object", vec![record], apply)
    }

    fn set_attributes(&mut self) -> Result<Outcome> {
        let object = self.object(self.header.object)?;
        self.require_change(&object)?;
        let changes = self.template()?;
        if !object.attributes.is_true(CKA_MODIFIABLE) {
            return Err(CKR_ACTION_PROHIBITED.into());
        }
        let officer = self.connection.login() == Login::SecurityOfficer;
        let mut rest = changes.clone();
        if officer && rest.boolean(CKA_TRUSTED)?.is_some() {
            rest.remove(CKA_TRUSTED);
        }
        template::check_change(object.class, &object.attributes, &rest, false)?;
        self.require_no_new_power(&object, &rest)?;
        let mut attributes = object.attributes.clone();
        changes
            .iter()
            .for_each(|(kind, value)| attributes.set(kind, value));
        let changed = object.changed(attributes);
        let records = if object.is_token() {
            vec![self.record_of(&changed)?]
        } else {
            Vec::new()
        };
        let partition = self.partition.clone();
        let apply = move || {
            partition.insert(changed);
            Ok(Outcome::Values(0, 0))
        };
        if records.is_empty() {
            apply()
        } else {
            self.defer("change attributes", records, apply)
        }
    }

    fn get_attributes(&mut self) -> Result<Outcome> {
        self.require_session()?;
        let object = self.object(self.header.object)?;
        let query = self.data();
        let mut out = Vec::new();
        for (kind, capacity) in decode_query(query.expose())? {
            match self.readable(&object, kind) {
                Ok(value) => encode_answer(&mut out, &Answer::of_value(kind, &value, capacity)),
                Err(status) => encode_answer(&mut out, &Answer::refused(kind, status)),
            }
        }
        Ok(Outcome::Bytes(out, 0, 0))
    }

    /// The value of an attribute as this caller may read it.
    fn readable(&self, object: &Object, kind: u64) -> std::result::Result<Vec<u8>, Status> {
        if template::MATERIAL.contains(&kind)
            && matches!(object.class, CKO_PRIVATE_KEY | CKO_SECRET_KEY)
            && template::allows(object.class, kind)
        {
            if object.attributes.is_true(CKA_SENSITIVE)
                || !object.attributes.is_true(CKA_EXTRACTABLE)
            {
                return Err(Status::Sensitive);
            }
            let key = object.key().ok().flatten().ok_or(Status::Invalid)?;
            return key.material(kind).ok_or(Status::Invalid);
        }
        object
            .attributes
            .get(kind)
            .map(<[u8]>::to_vec)
            .ok_or(Status::Invalid)
    }

    fn find_objects(&mut self) -> Result<Outcome> {
        self.require_session()?;
        let wanted = self.template()?;
        let limit = usize::try_from(self.header.aux)
            .unwrap_or(usize::MAX)
            .min(self.header.capacity as usize / 8);
        let mut handles = Vec::new();
        let mut from = self.header.object;
        loop {
            let page = self.partition.objects_from(from, FIND_PAGE);
            for object in &page {
                let matches = self.sees(object)
                    && wanted.iter().all(|(kind, value)| {
                        self.readable(object, kind)
                            .is_ok_and(|found| found == value)
                    });
                if matches && handles.len() / 8 >= limit {
                    return Ok(Outcome::Bytes(handles, object.handle, 0));
                }
                if matches {
                    handles.extend_from_slice(&object.handle.to_le_bytes());
                }
            }
            match page.last() {
                Some(last) if page.len() == FIND_PAGE => from = last.handle + 1,
                _ => return Ok(Outcome::Bytes(handles, 0, 0)),
            }
        }
    }
}

/// A template; one that is not well-formed or names an attribute twice is inconsistent.
pub(super) fn decode(bytes: &[u8]) -> Result<Attributes> {
    Attributes::decode(bytes).map_err(|_| CKR_TEMPLATE_INCONSISTENT.into())
}
