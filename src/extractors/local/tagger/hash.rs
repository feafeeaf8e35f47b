//! Words and features as numbers, without a string in between.
//!
//! Invariant: the numbers never change, for the weights were trained with them.

/// The hash of some bytes.
pub(in crate::extractors::local) fn bytes(bytes: &[u8]) -> u32 {
    let mut hash = 0x811c_9dc5;
    for &byte in bytes {
        hash = step(hash, byte);
    }
    hash
}

/// FNV-1a, one byte on; the hash of every prefix is met on the way.
pub(in crate::extractors::local) const fn step(hash: u32, byte: u8) -> u32 {
    (hash ^ byte as u32).wrapping_mul(0x0100_0193)
}

/// Two hashes in order.
pub(in crate::extractors::local) const fn pair(a: u32, b: u32) -> u32 {
    mix((a as u64) << 32 | b as u64)
}

/// A feature: what is asked (`template`) and what is answered.
pub(in crate::extractors::local) const fn feature(template: u32, value: u32) -> u32 {
    mix((template as u64) << 32 | value as u64)
}

const fn mix(bits: u64) -> u32 {
    let bits = (bits ^ bits >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ bits >> 32).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (bits >> 32) as u32
}
