//! Making keys: generate, wrap, unwrap, derive, encapsulate (PKCS#11 3.2, sections 5.18 and 5.19).

use casemate_transport::message::Operation;
use cryptoki_sys::*;

use super::objects::decode;
use super::{Call, Outcome, Result};
use crate::attributes::Attributes;
use crate::failure::Failure;
use crate::mechanisms::Made;
use crate::template::{self, Origin};

impl Call<'_> {
    pub(super) fn manage_key(&mut self, operation: Operation) -> Result<Outcome> {
        match operation {
            Operation::GenerateKey => self.generate_key(),
            Operation::GenerateKeyPair => self.generate_key_pair(),
            _ => Err(CKR_FUNCTION_NOT_SUPPORTED.into()),
        }
    }

    fn generate_key(&mut self) -> Result<Outcome> {
        self.session()?;
        let mechanism = self.mechanism()?;
        let template = self.template()?;
        template::check(CKO_SECRET_KEY, &template)?;
        let made = mechanism.generate(self, self.parameters, &template)?;
        let object = self.finish_generated(CKO_SECRET_KEY, template, made)?;
        self.add_objects("generate a key", vec![object], Vec::new())
    }

    fn generate_key_pair(&mut self) -> Result<Outcome> {
        self.session()?;
        let mechanism = self.mechanism()?;
        let public = decode(self.first)?;
        let private = self.template()?;
        template::check(CKO_PUBLIC_KEY, &public)?;
        template::check(CKO_PRIVATE_KEY, &private)?;
        let (made_public, made_private) =
            mechanism.generate_pair(self, self.parameters, &public, &private)?;
        let public = self.finish_generated(CKO_PUBLIC_KEY, public, made_public)?;
        let private = self.finish_generated(CKO_PRIVATE_KEY, private, made_private)?;
        self.add_objects("generate a key pair", vec![public, private], Vec::new())
    }

    fn finish_generated(
        &self,
        class: CK_OBJECT_CLASS,
        mut template: Attributes,
        made: Made,
    ) -> Result<(Attributes, Option<crate::keys::Key>)> {
        for (kind, value) in made.attributes.iter() {
            // What the template says of the value must be what was made.
            if kind == CKA_KEY_TYPE && template.get(kind).is_some_and(|given| given != value) {
                return Err(Failure::new(CKR_TEMPLATE_INCONSISTENT));
            }
            template.set(kind, value);
        }
        template.set_number(CKA_KEY_GEN_MECHANISM, self.header.mechanism);
        template::complete(class, Origin::Generated, &mut template);
        Ok((template, Some(made.key)))
    }
}
