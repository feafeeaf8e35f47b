//! Numbers as bits, for the weights' file: fixed widths, and Rice codes for those that are mostly small.

/// The file ends too early, or says what it can't mean.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the weights end too early")]
pub(in crate::extractors::local) struct Ended;

/// A longer unary part of a Rice code is written as a whole number instead.
const LONGEST: u32 = 24;

#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    /// What is read of `bytes`, and the bits that are waiting, lowest first.
    at: usize,
    waiting: u64,
    count: u32,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            waiting: 0,
            count: 0,
        }
    }

    /// A number of up to 32 bits.
    pub(super) fn number(&mut self, width: u32) -> Result<u32, Ended> {
        while self.count < width {
            let byte = *self.bytes.get(self.at).ok_or(Ended)?;
            self.waiting |= u64::from(byte) << self.count;
            self.count += 8;
            self.at += 1;
        }
        let number = self.waiting & ((1 << width) - 1);
        self.waiting >>= width;
        self.count -= width;
        Ok(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// A number by its Rice code with `low` low bits.
    pub(super) fn rice(&mut self, low: u32) -> Result<u32, Ended> {
        let mut high = 0;
        while self.number(1)? == 1 {
            high += 1;
            if high == LONGEST {
                return self.number(32);
            }
        }
        Ok(high << low | self.number(low)?)
    }

    pub(super) fn float(&mut self) -> Result<f32, Ended> {
        Ok(f32::from_bits(self.number(32)?))
    }
}

#[cfg(feature = "train")]
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    waiting: u64,
    count: u32,
}

#[cfg(feature = "train")]
impl Writer {
    pub(super) fn number(&mut self, number: u32, width: u32) {
        self.waiting |= u64::from(number) << self.count;
        self.count += width;
        while self.count >= 8 {
            self.bytes.push(self.waiting.to_le_bytes()[0]);
            self.waiting >>= 8;
            self.count -= 8;
        }
    }

    pub(super) fn rice(&mut self, number: u32, low: u32) {
        let high = number >> low;
        if high >= LONGEST {
            self.number((1 << LONGEST) - 1, LONGEST);
            self.number(number, 32);
            return;
        }
        self.number((1 << high) - 1, high + 1);
        self.number(number & ((1 << low) - 1), low);
    }

    pub(super) fn float(&mut self, number: f32) {
        self.number(number.to_bits(), 32);
    }

    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.number(0, 7);
        self.bytes
    }
}
