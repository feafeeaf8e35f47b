//! The weights: what each answer speaks for, and the lists that the questions look things up in; one packed file.
//!
//! Rows are found by the feature's number through a table of bits with counts, so that an unknown feature costs one
//! look. Knows the file's format and nothing of words. Invariant: what [`pack`] writes, [`Weights::unpack`] reads.

use super::{
    bits::{Ended, Reader},
    decode::{LABELS, Scores, Transitions},
    known::{Known, Map},
};

/// Raised when the format, the features or the tokens change: old weights are refused.
pub(in crate::extractors::local) const VERSION: u32 = 1;

const MAGIC: u32 = 0x7467_6d67;

/// How many bits a feature's number has. **Source:** with 22, 300,000 features share their number with another one in
/// 7 of 100 cases.
pub(in crate::extractors::local) const FEATURE_BITS: u32 = 22;

/// The number of a feature.
pub(in crate::extractors::local) const fn number(feature: u32) -> u32 {
    feature >> (32 - FEATURE_BITS)
}

/// Low bits of the Rice codes. **Source:** near the logarithm of the mean that each has.
const GAP_LOW: u32 = 4;
const WEIGHT_LOW: u32 = 3;
const KEY_LOW: u32 = 10;

/// The bits of a value of each list.
const NAME_BITS: [u32; 1] = [2];
const PLACE_BITS: [u32; 1] = [3];
const CLUSTER_BITS: [u32; 3] = [6, 9, 11];

/// Why a file of weights is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(in crate::extractors::local) enum WeightsError {
    /// It is cut off.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// It is something else, or of another version.
    #[error("these are no weights of version {VERSION}")]
    Foreign,
}

/// A row: the weights of a feature for each label, the rest unused. 16 bytes are one step of the processor.
type Row = [i8; 16];

/// The weights in memory.
#[derive(Debug, Default)]
pub(in crate::extractors::local) struct Weights {
    /// For each 64 numbers, which have a row, and how many rows stand before.
    index: Vec<(u64, u32)>,
    rows: Vec<Row>,
    pub(super) transitions: Transitions,
    /// Odds of being right at margin 0, and their growth with the margin.
    pub(super) calibration: (f32, f32),
    pub(in crate::extractors::local) known: Known,
}

/// The sum of rows.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Sum([i16; 16]);

impl Sum {
    pub(super) fn scores(&self) -> Scores {
        let mut scores = [0.0; LABELS];
        for (score, &sum) in scores.iter_mut().zip(&self.0) {
            *score = f32::from(sum);
        }
        scores
    }
}

impl Weights {
    /// Adds the row of a feature, if it has one.
    pub(super) fn add(&self, feature: u32, sum: &mut Sum) {
        let number = number(feature) as usize;
        let Some(&(bits, before)) = self.index.get(number / 64) else {
            return;
        };
        let bit = 1_u64 << (number % 64);
        if bits & bit == 0 {
            return;
        }
        let at = before + (bits & (bit - 1)).count_ones();
        if let Some(row) = self.rows.get(at as usize) {
            for (sum, &weight) in sum.0.iter_mut().zip(row) {
                *sum = sum.wrapping_add(i16::from(weight));
            }
        }
    }

    /// Reads a file.
    pub(in crate::extractors::local) fn unpack(bytes: &[u8]) -> Result<Self, WeightsError> {
        let mut reader = Reader::new(bytes);
        if reader.number(32)? != MAGIC || reader.number(8)? != VERSION {
            return Err(WeightsError::Foreign);
        }
        let mut weights = Self {
            known: Known {
                names: unpack_list(&mut reader, NAME_BITS, |[class]| small(class))?,
                places: unpack_list(&mut reader, PLACE_BITS, |[class]| small(class))?,
                clusters: unpack_list(&mut reader, CLUSTER_BITS, |ids| {
                    ids.map(|id| u16::try_from(id).unwrap_or(0))
                })?,
                cues: Known::read_cues(),
            },
            calibration: (reader.float()?, reader.float()?),
            ..Self::default()
        };
        for score in weights.transitions.iter_mut().flatten() {
            *score = reader.float()?;
        }
        let count = reader.number(32)?;
        let mut index = vec![(0_u64, 0_u32); 1 << (FEATURE_BITS - 6)];
        let mut number = 0;
        for _ in 0..count {
            number += reader.rice(GAP_LOW)? as usize;
            index.get_mut(number / 64).ok_or(WeightsError::Foreign)?.0 |= 1 << (number % 64);
            let mask = reader.number(9)?;
            let mut row = Row::default();
            for (label, weight) in row.iter_mut().enumerate().take(LABELS) {
                if mask >> label & 1 == 1 {
                    let coded = reader.rice(WEIGHT_LOW)?;
                    let size = i8::try_from(coded / 2 + 1).map_err(|_| WeightsError::Foreign)?;
                    *weight = if coded % 2 == 0 { size } else { -size };
                }
            }
            weights.rows.push(row);
        }
        let mut before = 0;
        for (bits, rows) in &mut index {
            *rows = before;
            before += bits.count_ones();
        }
        weights.index = index;
        Ok(weights)
    }
}

fn unpack_list<V: Copy + Default, const N: usize>(
    reader: &mut Reader<'_>,
    widths: [u32; N],
    value: impl Fn([u32; N]) -> V,
) -> Result<Map<V>, Ended> {
    let mut entries = Vec::new();
    let mut key = 0_u32;
    for _ in 0..reader.number(32)? {
        key = key.wrapping_add(reader.rice(KEY_LOW)?);
        let mut parts = [0; N];
        for (part, width) in parts.iter_mut().zip(widths) {
            *part = reader.number(width)?;
        }
        entries.push((key, value(parts)));
    }
    Ok(Map::of_keys(entries, |old, _| old))
}

/// A class of a list, which has few.
fn small(class: u32) -> u8 {
    u8::try_from(class).unwrap_or(0)
}

/// Packs what training has learned. `rows` are in weights' own scale, by number; those below `least` are dropped.
#[cfg(feature = "train")]
#[expect(
    clippy::cast_possible_truncation,
    reason = "clamped to what fits, which is what quantizing is"
)]
pub(in crate::extractors::local) fn pack(
    known: &Known,
    rows: &[(u32, Scores)],
    transitions: &Transitions,
    calibration: (f32, f32),
    (scale, least): (f32, f32),
) -> Vec<u8> {
    let mut writer = super::bits::Writer::default();
    writer.number(MAGIC, 32);
    writer.number(VERSION, 8);
    pack_list(&mut writer, &known.names, NAME_BITS, |class| [class.into()]);
    pack_list(&mut writer, &known.places, PLACE_BITS, |class| {
        [class.into()]
    });
    pack_list(
        &mut writer,
        &known.clusters,
        CLUSTER_BITS,
        |ids: [u16; 3]| ids.map(u32::from),
    );
    writer.float(calibration.0);
    writer.float(calibration.1);
    for score in transitions.iter().flatten() {
        writer.float(score / scale);
    }
    let quantized: Vec<(u32, [i8; LABELS])> = rows
        .iter()
        .map(|&(number, row)| {
            (
                number,
                row.map(|weight| {
                    if weight.abs() < least {
                        0
                    } else {
                        (weight / scale).round().clamp(-127.0, 127.0) as i8
                    }
                }),
            )
        })
        .filter(|(_, row)| row.iter().any(|&weight| weight != 0))
        .collect();
    writer.number(u32::try_from(quantized.len()).unwrap_or(u32::MAX), 32);
    let mut before = 0;
    for (number, row) in quantized {
        writer.rice(number - before, GAP_LOW);
        before = number;
        let mask = row.iter().enumerate().fold(0, |mask, (label, &weight)| {
            mask | u32::from(weight != 0) << label
        });
        writer.number(mask, 9);
        for weight in row.into_iter().filter(|&weight| weight != 0) {
            let size = u32::from(weight.unsigned_abs()) - 1;
            writer.rice(size * 2 + u32::from(weight < 0), WEIGHT_LOW);
        }
    }
    writer.into_bytes()
}

#[cfg(feature = "train")]
fn pack_list<V: Copy + Default, const N: usize>(
    writer: &mut super::bits::Writer,
    list: &Map<V>,
    widths: [u32; N],
    parts: impl Fn(V) -> [u32; N],
) {
    let entries = list.entries();
    writer.number(u32::try_from(entries.len()).unwrap_or(u32::MAX), 32);
    let mut before = 0;
    for (key, value) in entries {
        writer.rice(key - before, KEY_LOW);
        before = key;
        for (part, width) in parts(value).into_iter().zip(widths) {
            writer.number(part, width);
        }
    }
}
