//! The quick reading of an X.509 certificate in its usual form, behind `casemate.formats.x509`.
//!
//! Rust and not Python: of a host that was never seen five certificates are read, which took a
//! tenth of its appraisal. It only takes; what it does not take is read in Python, which says what
//! is wrong with it. Nothing here recurses, and nothing here reaches a key.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

use super::der::header;

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// INTEGER 2: version 3.
const VERSION_3: &[u8] = &[0x02, 0x01, 0x02];

/// Elements one after another.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next element, of this tag: its content and its whole encoding.
    fn next(&mut self, tag: u8) -> Option<(&'a [u8], &'a [u8])> {
        let (found, content) = header(self.0, 0, "").ok()?;
        let end = content.end;
        let element = (self.0.get(content)?, self.0.get(..end)?);
        self.0 = self.0.get(end..)?;
        (found == tag).then_some(element)
    }

    fn content(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next(tag).map(|(content, _)| content)
    }

    fn encoded(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next(tag).map(|(_, encoded)| encoded)
    }

    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// The only element that some bytes are.
fn only(data: &[u8], tag: u8) -> Option<&[u8]> {
    let mut fields = Fields(data);
    let content = fields.content(tag)?;
    fields.end()?;
    Some(content)
}

struct Parts<'a> {
    tbs: &'a [u8],
    signature: &'a [u8],
    serial: &'a [u8],
    issuer: &'a [u8],
    validity: [String; 2],
    subject: &'a [u8],
    spki: &'a [u8],
    extensions: Vec<(&'a [u8], bool, &'a [u8])>,
}

fn parts<'a>(data: &'a [u8], algorithm: &[u8]) -> Option<Parts<'a>> {
    let mut outer = Fields(only(data, SEQUENCE)?);
    let (inner, tbs) = outer.next(SEQUENCE)?;
    (outer.encoded(SEQUENCE)? == algorithm).then_some(())?;
    let (&0, signature) = outer.content(BIT_STRING)?.split_first()? else {
        return None;
    };
    outer.end()?;
    let mut fields = Fields(inner);
    (fields.content(VERSION)? == VERSION_3).then_some(())?;
    let serial = integer(fields.content(INTEGER)?)?;
    (fields.encoded(SEQUENCE)? == algorithm).then_some(())?;
    let issuer = fields.encoded(SEQUENCE)?;
    let mut times = Fields(fields.content(SEQUENCE)?);
    let validity = [time(&mut times)?, time(&mut times)?];
    times.end()?;
    let subject = fields.encoded(SEQUENCE)?;
    let spki = fields.encoded(SEQUENCE)?;
    let mut found = Vec::new();
    if fields.peek() == Some(EXTENSIONS) {
        let mut list = Fields(only(fields.content(EXTENSIONS)?, SEQUENCE)?);
        while list.peek().is_some() {
            found.push(extension(list.content(SEQUENCE)?)?);
        }
    }
    fields.end()?;
    Some(Parts {
        tbs,
        signature,
        serial,
        issuer,
        validity,
        subject,
        spki,
        extensions: found,
    })
}

/// The content of an INTEGER in its shortest form.
fn integer(content: &[u8]) -> Option<&[u8]> {
    match *content {
        [] | [0, 0..=0x7f, ..] | [0xff, 0x80..=0xff, ..] => None,
        _ => Some(content),
    }
}

/// YYYYMMDDHHMMSSZ of either kind of time.
fn time(fields: &mut Fields<'_>) -> Option<String> {
    let tag = fields.peek()?;
    let text = str::from_utf8(fields.content(tag)?).ok()?;
    let text = match tag {
        UTC_TIME if text < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let digits = text.strip_suffix('Z')?;
    (digits.len() == 14 && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

fn extension(data: &[u8]) -> Option<(&[u8], bool, &[u8])> {
    let mut fields = Fields(data);
    let oid = fields.content(OID)?;
    let critical = match fields.peek()? {
        BOOLEAN => match fields.content(BOOLEAN)? {
            [0x00] => false,
            [0xff] => true,
            _ => return None,
        },
        _ => false,
    };
    let value = fields.content(OCTET_STRING)?;
    fields.end()?;
    Some((oid, critical, value))
}

/// A certificate's parts, if it is one of the usual form whose signature algorithm is this one.
#[pyfunction]
pub fn certificate_parts<'py>(
    py: Python<'py>,
    data: &[u8],
    algorithm: &[u8],
) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let Some(found) = parts(data, algorithm) else {
        return Ok(None);
    };
    let bytes = |data| PyBytes::new(py, data).into_any();
    let extensions = found
        .extensions
        .iter()
        .map(|&(oid, critical, value)| (bytes(oid), critical, bytes(value)))
        .collect::<Vec<_>>();
    let [not_before, not_after] = found
        .validity
        .map(|text| PyString::new(py, &text).into_any());
    PyTuple::new(
        py,
        [
            bytes(found.tbs),
            bytes(found.signature),
            bytes(found.serial),
            bytes(found.issuer),
            not_before,
            not_after,
            bytes(found.subject),
            bytes(found.spki),
            extensions.into_pyobject(py)?.into_any(),
        ],
    )
    .map(Some)
}
