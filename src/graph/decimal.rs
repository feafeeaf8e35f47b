//! Confidences in output: the shortest decimal that means the same `f32`, 0.9 and not 0.8999999761581421, whatever
//! the serializer makes of an `f32`.

use serde::Serializer;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
pub(super) fn serialize<S: Serializer>(confidence: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    // Through the text, as a cast would keep the digits of the binary value.
    let shortest = confidence.to_string().parse();
    serializer.serialize_f64(shortest.unwrap_or_else(|_| f64::from(*confidence)))
}
