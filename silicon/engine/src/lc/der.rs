//! DER (X.690) as keys need it: a bounded reader of tag, length and value, and an encoder.
//!
//! The reader takes definite, minimal lengths and single-byte tags only; whatever else, and
//! whatever is left over, is `Error::Encoding` with the name of the structure.

use super::{Error, Secret};

/// BOOLEAN.
pub const BOOLEAN: u8 = 0x01;
/// INTEGER.
pub const INTEGER: u8 = 0x02;
/// BIT STRING.
pub const BIT_STRING: u8 = 0x03;
/// OCTET STRING.
pub const OCTET_STRING: u8 = 0x04;
/// NULL.
pub const NULL: u8 = 0x05;
/// OBJECT IDENTIFIER.
pub const OBJECT_IDENTIFIER: u8 = 0x06;
/// SEQUENCE.
pub const SEQUENCE: u8 = 0x30;

/// The tag of a context-specific constructed element.
pub const fn constructed(number: u8) -> u8 {
    0xa0 | number
}

/// The tag of a context-specific primitive element.
pub const fn primitive(number: u8) -> u8 {
    0x80 | number
}

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    name: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads these bytes, which are a structure of this name.
    pub fn new(bytes: &'a [u8], name: &'static str) -> Self {
        Self { rest: bytes, name }
    }

    /// The error of this structure.
    pub fn malformed(&self) -> Error {
        Error::Encoding(self.name)
    }

    /// Whether all is read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The tag of the next element.
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Refuses what is left over.
    pub fn finish(self) -> Result<(), Error> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.malformed())
        }
    }

    /// The next element: its tag and content.
    pub fn any(&mut self) -> Result<(u8, &'a [u8]), Error> {
        let (tag, content, rest) = split(self.rest).ok_or(self.malformed())?;
        self.rest = rest;
        Ok((tag, content))
    }

    /// The content of the next element, which has this tag.
    pub fn element(&mut self, tag: u8) -> Result<&'a [u8], Error> {
        match self.any()? {
            (found, content) if found == tag => Ok(content),
            _ => Err(self.malformed()),
        }
    }

    /// The content of the next element, if it has this tag.
    pub fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Error> {
        if self.peek() == Some(tag) {
            self.element(tag).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The elements of the next element, a SEQUENCE.
    pub fn sequence(&mut self) -> Result<Reader<'a>, Error> {
        let rest = self.element(SEQUENCE)?;
        Ok(Reader { rest, ..*self })
    }

    /// The elements of the next element, if it has this tag.
    pub fn optional_within(&mut self, tag: u8) -> Result<Option<Reader<'a>>, Error> {
        let content = self.optional(tag)?;
        Ok(content.map(|rest| Reader { rest, ..*self }))
    }

    /// A number of no sign: its bytes without leading zeros (none for zero).
    pub fn unsigned(&mut self) -> Result<&'a [u8], Error> {
        match self.element(INTEGER)? {
            [0] => Ok(&[]),
            [0, rest @ ..] if rest.first().is_some_and(|byte| *byte >= 0x80) => Ok(rest),
            bytes @ [first, ..] if (1..0x80).contains(first) => Ok(bytes),
            _ => Err(self.malformed()),
        }
    }

    /// A number of no sign below 256.
    pub fn small(&mut self) -> Result<u8, Error> {
        match self.unsigned()? {
            [] => Ok(0),
            [value] => Ok(*value),
            _ => Err(self.malformed()),
        }
    }

    /// A BIT STRING of whole bytes.
    pub fn bits(&mut self) -> Result<&'a [u8], Error> {
        let content = self.element(BIT_STRING)?;
        bits(content).ok_or(self.malformed())
    }
}

/// The bytes of a BIT STRING's content, which has no unused bits.
pub fn bits(content: &[u8]) -> Option<&[u8]> {
    match content {
        [0, bytes @ ..] => Some(bytes),
        _ => None,
    }
}

/// Tag, content and what follows the first element of these bytes.
fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, mut rest) = rest.split_first()?;
    let length = if *first < 0x80 {
        usize::from(*first)
    } else {
        let count = usize::from(first & 0x7f);
        let (long, after) = rest.split_at_checked(count)?;
        rest = after;
        if !(1..=4).contains(&count) || long.first() == Some(&0) {
            return None;
        }
        let length = long
            .iter()
            .fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
        if length < 0x80 {
            return None;
        }
        length
    };
    let (content, rest) = rest.split_at_checked(length)?;
    (tag & 0x1f != 0x1f).then_some((*tag, content, rest))
}

/// An element: tag, length, and the parts as its content. In a buffer that is wiped, since it may
/// hold a key.
pub fn element(tag: u8, parts: &[&[u8]]) -> Secret {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let bytes = length.to_be_bytes();
    let skip = bytes.iter().take_while(|byte| **byte == 0).count();
    let long = bytes.get(skip..).unwrap_or(&[]);
    let short = [length as u8];
    let count = [0x80 | long.len() as u8];
    let header: [&[u8]; 2] = if length < 0x80 {
        [&short, &[]]
    } else {
        [&count, long]
    };
    concat(&[&[&[tag][..]], &header[..], parts].concat())
}

/// The parts in a row, in a buffer that is wiped.
pub fn concat(parts: &[&[u8]]) -> Secret {
    let mut out = Secret::zeroed(parts.iter().map(|part| part.len()).sum());
    let mut rest = out.expose_mut();
    for part in parts {
        let (place, after) = std::mem::take(&mut rest).split_at_mut(part.len());
        place.copy_from_slice(part);
        rest = after;
    }
    out
}

/// An INTEGER of these big-endian bytes.
pub fn unsigned(bytes: &[u8]) -> Secret {
    let skip = bytes.iter().take_while(|byte| **byte == 0).count();
    let bytes = bytes.get(skip..).unwrap_or(&[]);
    let sign: &[u8] = if bytes.first().is_none_or(|byte| *byte >= 0x80) {
        &[0]
    } else {
        &[]
    };
    element(INTEGER, &[sign, bytes])
}

/// The r || s of an ECDSA signature in DER (RFC 3279, Ecdsa-Sig-Value), each `half` bytes long.
pub fn ecdsa_raw(signature: &[u8], half: usize) -> Result<Vec<u8>, Error> {
    let mut outer = Reader::new(signature, "the ECDSA signature");
    let mut numbers = outer.sequence()?;
    outer.finish()?;
    let mut out = vec![0; 2 * half];
    for place in out.chunks_mut(half.max(1)) {
        let number = numbers.unsigned()?;
        let skip = place
            .len()
            .checked_sub(number.len())
            .ok_or(numbers.malformed())?;
        place
            .get_mut(skip..)
            .ok_or(numbers.malformed())?
            .copy_from_slice(number);
    }
    numbers.finish()?;
    Ok(out)
}

/// The DER form of an ECDSA signature r || s.
pub fn ecdsa_der(raw: &[u8]) -> Vec<u8> {
    let (r, s) = raw.split_at(raw.len() / 2);
    let (r, s) = (unsigned(r), unsigned(s));
    element(SEQUENCE, &[r.expose(), s.expose()])
        .expose()
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_der_does_not_allow_is_refused() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x81, 0x01, 0],
            &[0x30, 0x82, 0x00, 0x81],
            &[0x30, 0x85, 1, 0, 0, 0, 0],
            &[0x1f, 0x20, 0x00],
            &[0x04, 0x02, 0x00],
        ] {
            assert!(Reader::new(bytes, "a test").any().is_err(), "{bytes:?}");
        }
        for bytes in [&[2, 0][..], &[2, 1, 0x80], &[2, 2, 0, 0x7f], &[2, 2, 0, 0]] {
            assert!(
                Reader::new(bytes, "a test").unsigned().is_err(),
                "{bytes:?}"
            );
        }
        assert!(Reader::new(&[3, 2, 1, 0], "a test").bits().is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..70_000)) {
            let encoded = element(OCTET_STRING, &[&bytes]);
            let mut reader = Reader::new(encoded.expose(), "a test");
            prop_assert_eq!(reader.element(OCTET_STRING).unwrap(), &bytes[..]);
            reader.finish().unwrap();
            let number = unsigned(&bytes);
            let skip = bytes.iter().take_while(|byte| **byte == 0).count();
            prop_assert_eq!(Reader::new(number.expose(), "a test").unsigned().unwrap(), &bytes[skip..]);
        }

        #[test]
        fn signatures_change_form_and_back(raw in proptest::collection::vec(any::<u8>(), 64)) {
            prop_assert_eq!(&ecdsa_raw(&ecdsa_der(&raw), 32).unwrap(), &raw);
        }

        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut reader = Reader::new(&bytes, "a test");
            while let Ok((_, content)) = reader.any() {
                let _ = Reader::new(content, "a test").unsigned();
            }
            let _ = ecdsa_raw(&bytes, 32);
        }
    }
}
