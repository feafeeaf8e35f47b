//! Embeddings that mean a little: texts that share letters in a row are near one another.
//!
//! Knows texts and vectors. Invariant: a text has one vector, whoever asks and whenever.

use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::request::tokens;

/// Numbers in a vector when a request does not say.
const DIMENSIONS: usize = 64;
/// The most that a request may ask for.
const MOST_DIMENSIONS: usize = 4096;

/// A request for embeddings.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    pub(super) model: String,
    input: Input,
    dimensions: Option<usize>,
    encoding_format: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "`input` is a text or an array of texts")]
enum Input {
    One(String),
    Many(Vec<String>),
}

impl Request {
    /// Reads the body of a request, or says what is wrong with it.
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        let request: Self = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        if (request.encoding_format.as_deref()).is_some_and(|format| format != "float") {
            return Err("`encoding_format` can only be `float` here".to_owned());
        }
        if request.texts().is_empty() || request.texts().iter().any(String::is_empty) {
            return Err("`input` can't be empty".to_owned());
        }
        if !(1..=MOST_DIMENSIONS).contains(&request.dimensions()) {
            return Err("`dimensions` is out of bounds".to_owned());
        }
        Ok(request)
    }

    fn texts(&self) -> &[String] {
        match &self.input {
            Input::One(text) => std::slice::from_ref(text),
            Input::Many(texts) => texts,
        }
    }

    fn dimensions(&self) -> usize {
        self.dimensions.unwrap_or(DIMENSIONS)
    }

    pub(super) fn prompt_tokens(&self) -> u64 {
        self.texts().iter().map(|text| tokens(text.len())).sum()
    }

    /// The answer.
    pub(super) fn answer(&self) -> Value {
        let data: Vec<Value> = (0..)
            .zip(self.texts())
            .map(|(index, text): (u64, _)| {
                json!({"object": "embedding", "index": index, "embedding": vector(text, self.dimensions())})
            })
            .collect();
        let tokens = self.prompt_tokens();
        json!({
            "object": "list", "model": self.model, "data": data,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        })
    }
}

/// Three letters in a row, hashed; of length 1.
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut vector = vec![0_f32; dimensions];
    let letters: Vec<char> = format!(" {} ", text.to_lowercase()).chars().collect();
    for three in letters.windows(3) {
        let hash = Sha256::digest(three.iter().collect::<String>());
        let place = usize::from(u16::from_le_bytes([hash[0], hash[1]])) % dimensions;
        vector[place] += if hash[2].is_multiple_of(2) { 1.0 } else { -1.0 };
    }
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length == 0.0 {
        // Every pair cancelled out.
        vector[0] = 1.0;
    } else {
        for x in &mut vector {
            *x /= length;
        }
    }
    vector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_texts_are_near() {
        let near = |a: &str, b: &str| -> f32 {
            let (a, b) = (vector(a, 64), vector(b, 64));
            a.iter().zip(b).map(|(a, b)| a * b).sum()
        };
        assert!((near("Angela Merkel", "Angela Merkel") - 1.0).abs() < 1e-5);
        let like = near("Angela Merkel", "A. Merkel");
        let unlike = near("Angela Merkel", "Toyota Corporation");
        assert!(like > unlike + 0.1, "{like} {unlike}");
        assert_eq!(vector("a", 7).len(), 7);
    }
}
