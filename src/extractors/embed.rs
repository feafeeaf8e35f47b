//! Texts as vectors, from any server that speaks OpenAI's embeddings, through the same [`Calls`] as everything else.
//!
//! Invariant: as many vectors as texts, in their order, all of one dimension and of finite numbers.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{CallRequest, Calls, ExtractError, Operation, UnitName};

/// Something that gives texts vectors.
#[async_trait]
pub trait Embedder: Send + Sync {
    /// A vector for each text, in order.
    ///
    /// # Errors
    /// [`ExtractError`] says whether trying again can help.
    async fn embed(&self, unit: &UnitName, texts: &[&str]) -> Result<Vec<Vec<f32>>, ExtractError>;
}

/// Texts in one request.
///
/// **Source:** 64 names are a few hundred tokens, and small enough for servers that take one batch at a time.
const BATCH: usize = 64;

/// An embedder by a model.
pub struct ModelEmbedder {
    calls: Arc<dyn Calls>,
    /// Of the first vector that came.
    dimension: OnceLock<usize>,
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    input: &'a [&'a str],
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    embedding: Vec<f32>,
    index: Option<usize>,
}

impl ModelEmbedder {
    /// Embeds with the model behind `calls`.
    #[must_use]
    pub fn new(calls: Arc<dyn Calls>) -> Self {
        Self {
            calls,
            dimension: OnceLock::new(),
        }
    }

    /// The vectors of an answer for `count` texts; `None` if they are not what was asked for.
    fn vectors(&self, body: &[u8], count: usize) -> Option<Vec<Vec<f32>>> {
        let answer: Answer = serde_json::from_slice(body).ok()?;
        if answer.data.len() != count {
            return None;
        }
        let mut vectors = vec![Vec::new(); count];
        for (place, item) in answer.data.into_iter().enumerate() {
            let vector: &mut Vec<f32> = vectors.get_mut(item.index.unwrap_or(place))?;
            let is_fit = vector.is_empty()
                && !item.embedding.is_empty()
                && item.embedding.iter().all(|number| number.is_finite());
            if !is_fit {
                return None;
            }
            *vector = item.embedding;
        }
        let dimension = *self.dimension.get_or_init(|| vectors[0].len());
        vectors
            .iter()
            .all(|vector| vector.len() == dimension)
            .then_some(vectors)
    }
}

#[async_trait]
impl Embedder for ModelEmbedder {
    async fn embed(&self, unit: &UnitName, texts: &[&str]) -> Result<Vec<Vec<f32>>, ExtractError> {
        let mut vectors = Vec::with_capacity(texts.len());
        for input in texts.chunks(BATCH) {
            let body = Body {
                model: self.calls.model(),
                input,
            };
            let request = CallRequest {
                operation: Operation::Embeddings,
                body: serde_json::to_vec(&body).map_err(|_| {
                    ExtractError::Terminal("the texts can't be written as JSON".to_owned())
                })?,
                prompt: "embed@1".to_owned(),
                sample: 0,
                max_output_tokens: 0,
            };
            let answer = self.calls.call(unit, &request).await?;
            let more = self.vectors(&answer.body, input.len()).ok_or_else(|| {
                ExtractError::Terminal(
                    "the model's server did not give each text a vector of one dimension"
                        .to_owned(),
                )
            })?;
            vectors.extend(more);
        }
        Ok(vectors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extractors::{Answer as Answered, CallError};

    /// Answers with as many vectors as texts, last first.
    struct Backwards;

    #[async_trait]
    impl Calls for Backwards {
        fn model(&self) -> &'static str {
            "vectors"
        }

        async fn call(&self, _: &UnitName, request: &CallRequest) -> Result<Answered, CallError> {
            assert_eq!(request.operation, Operation::Embeddings);
            let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
            let texts = body["input"].as_array().unwrap();
            let data: Vec<_> = texts
                .iter()
                .enumerate()
                .rev()
                .map(|(index, text)| {
                    let length = u16::try_from(text.as_str().unwrap().len()).unwrap();
                    serde_json::json!({"index": index, "embedding": [f32::from(length), 0.5]})
                })
                .collect();
            Ok(Answered {
                body: serde_json::json!({ "data": data }).to_string().into_bytes(),
                replayed: false,
            })
        }

        async fn recall(&self) -> Result<Option<String>, CallError> {
            Ok(None)
        }

        async fn remember(&self, _: &str) -> Result<(), CallError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn vectors_are_in_the_order_of_the_texts() {
        let unit = UnitName {
            document: "d".into(),
            stage: "resolve",
            unit: 0,
        };
        let texts: Vec<String> = (0..150).map(|length| "x".repeat(length)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let embedder = ModelEmbedder::new(Arc::new(Backwards));
        let vectors = embedder.embed(&unit, &texts).await.unwrap();
        let lengths: Vec<f32> = vectors.iter().map(|vector| vector[0]).collect();
        let wanted: Vec<f32> = (0..150_u8).map(f32::from).collect();
        assert_eq!(lengths, wanted);
    }

    #[test]
    fn other_answers_are_refused() {
        let embedder = ModelEmbedder::new(Arc::new(Backwards));
        let fits = |body: &str, count| embedder.vectors(body.as_bytes(), count).is_some();
        assert!(fits(
            r#"{"data":[{"embedding":[1,2]},{"embedding":[3,4]}]}"#,
            2
        ));
        for (body, count) in [
            (r#"{"data":[{"embedding":[1,2]}]}"#, 2),
            (r#"{"data":[{"embedding":[1,2,3]}]}"#, 1),
            (r#"{"data":[{"embedding":[]}]}"#, 1),
            (r#"{"data":[{"embedding":[1,1e99]}]}"#, 1),
            (r#"{"data":[{"embedding":"AAAA"}]}"#, 1),
            (
                r#"{"data":[{"index":0,"embedding":[1,2]},{"index":0,"embedding":[1,2]}]}"#,
                2,
            ),
            (r#"{"data":[{"index":7,"embedding":[1,2]}]}"#, 1),
            ("", 1),
        ] {
            assert!(!fits(body, count), "{body}");
        }
    }
}
