//! Fields of a message: the bounded reader and writer of little-endian numbers and counted bytes.

/// A body that ends before its fields do, or goes on behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Bytes from the body's beginning.
    pub offset: usize,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "malformed message body at byte {}", self.offset)
    }
}

impl std::error::Error for Malformed {}

/// Reads little-endian fields from a private copy of a body.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Reads from the beginning of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// The next `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let end = self.offset.checked_add(length);
        let slice = end.and_then(|end| self.bytes.get(self.offset..end));
        match slice {
            Some(slice) => {
                self.offset += length;
                Ok(slice)
            }
            None => Err(Malformed {
                offset: self.offset,
            }),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let offset = self.offset;
        self.bytes(N)?.try_into().map_err(|_| Malformed { offset })
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// A u32 length and that many bytes.
    pub fn counted(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u32()?;
        self.bytes(usize::try_from(length).map_err(|_| Malformed {
            offset: self.offset,
        })?)
    }

    /// What is left.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = self.bytes.get(self.offset..).unwrap_or(&[]);
        self.offset = self.bytes.len();
        rest
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.offset >= self.bytes.len()
    }

    /// Bytes read so far.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Fails unless nothing is left.
    pub fn finish(&self) -> Result<(), Malformed> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(Malformed {
                offset: self.offset,
            })
        }
    }
}

/// Writes little-endian fields into a buffer; what does not fit is dropped and `overflowed` is set.
#[derive(Debug)]
pub struct Writer<'a> {
    bytes: &'a mut [u8],
    offset: usize,
}

impl<'a> Writer<'a> {
    /// Writes from the beginning of `bytes`.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Appends bytes.
    pub fn bytes(&mut self, data: &[u8]) {
        let end = self.offset.saturating_add(data.len());
        if let Some(target) = self.bytes.get_mut(self.offset..end) {
            target.copy_from_slice(data);
        }
        self.offset = end;
    }

    /// Appends two bytes.
    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    /// Appends four bytes.
    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    /// Appends eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    /// Bytes written, or wanted.
    pub fn written(&self) -> usize {
        self.offset
    }

    /// Whether something did not fit.
    pub fn overflowed(&self) -> bool {
        self.offset > self.bytes.len()
    }
}
