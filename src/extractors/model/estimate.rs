//! What asking a model about a text will take, before anything is asked.
//!
//! Pure: it writes the very questions that would be sent and weighs them; the names that they would be about are
//! those that the local extractor finds.

use std::ops::AddAssign;

use super::{
    super::local,
    ModelSettings,
    ask::Task,
    classes,
    dialect::{Dialect, Question},
    mentions, prompt, relations,
};
use crate::graph::{Mention, Ontology, Span, Text, TypedMention};

/// Bytes of a request that are a token, as a rule.
///
/// **Source:** four is what OpenAI says of English; other scripts take more tokens.
const BYTES: u64 = 4;

/// Tokens of one item in an answer.
///
/// **Source:** the items of the examples in the prompts, by four bytes a token, and a few more for names of more
/// words.
const MENTION: u64 = 18;
const CLASS: u64 = 10;
const RELATION: u64 = 36;

/// What one stage takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageEstimate {
    /// Calls, if every answer can be used.
    pub calls: u64,
    /// Tokens of their prompts.
    pub prompt_tokens: u64,
    /// Tokens of their answers.
    pub completion_tokens: u64,
}

impl AddAssign for StageEstimate {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
    }
}

/// What a document takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    /// The stage `mentions`.
    pub mentions: StageEstimate,
    /// The stage `entities`.
    pub entities: StageEstimate,
    /// The stage `relations`.
    pub relations: StageEstimate,
}

impl AddAssign for Estimate {
    fn add_assign(&mut self, other: Self) {
        self.mentions += other.mentions;
        self.entities += other.entities;
        self.relations += other.relations;
    }
}

impl Estimate {
    /// All stages together.
    #[must_use]
    pub fn total(&self) -> StageEstimate {
        let mut total = self.mentions;
        total += self.entities;
        total += self.relations;
        total
    }
}

/// What `text` will take, cut into `chunks`, its mentions in groups of `group_size`. A chunk's tokens are those of
/// the whole request by four bytes each; a model that lists more or fewer names than the local extractor takes more
/// or less.
#[must_use]
pub fn estimate(
    text: &Text,
    chunks: &[Span],
    group_size: usize,
    ontology: &Ontology,
    settings: ModelSettings,
) -> Estimate {
    let mut estimate = Estimate::default();
    let system = prompt::mentions(prompt::MENTIONS, ontology);
    let mut all: Vec<TypedMention> = Vec::new();
    for &chunk in chunks {
        let guessed = local::guessed(text, chunk, ontology);
        let stretch = text.slice(chunk);
        let items = MENTION * count(guessed.len());
        estimate.mentions += weighed(
            &mentions::task(prompt::MENTIONS, &system, stretch),
            items,
            settings,
        );
        let things = relations::things(text, chunk, &guessed);
        let types = relations::offered(&things, ontology);
        if !types.is_empty() {
            // About one statement for two things.
            let items = RELATION * count(things.len().div_ceil(2));
            let task = relations::task(prompt::RELATIONS, stretch, &things, &types);
            estimate.relations += weighed(&task, items, settings);
        }
        all.extend(guessed);
    }
    all.sort_by_key(|mention| mention.span);
    all.dedup_by_key(|mention| mention.span);
    let all: Vec<Mention> = all
        .into_iter()
        .map(|mention| Mention {
            span: mention.span,
            label: mention.label,
            value: mention.value,
            confidence: mention.confidence,
        })
        .collect();
    for group in all.chunks(group_size.max(1)) {
        let names = classes::names(text, group);
        let offered = classes::offered(&names, ontology);
        let items = CLASS * count(names.len());
        estimate.entities += weighed(
            &classes::task(prompt::CLASSES, text, &names, &offered),
            items,
            settings,
        );
    }
    estimate
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn weighed(task: &Task<'_>, items: u64, settings: ModelSettings) -> StageEstimate {
    let question = Question {
        prompt: task.prompt,
        system: task.system,
        user: &task.user,
        schema: &task.schema,
        sample: 0,
        cap: settings.max_output_tokens,
    };
    // The schemas of this room can be written.
    let bytes = Dialect::first()
        .request("", &question)
        .map_or(0, |request| count(request.body.len()));
    StageEstimate {
        calls: 1,
        prompt_tokens: bytes.div_ceil(BYTES),
        // The list around the items.
        completion_tokens: (items + 6).min(settings.max_output_tokens),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, chunks: usize) -> Estimate {
        let text = Text::new(text);
        let whole = Span::new(0, text.chars());
        let ontology = Ontology::builtin().unwrap();
        estimate(
            &text,
            &vec![whole; chunks],
            50,
            &ontology,
            ModelSettings::default(),
        )
    }

    #[test]
    fn it_weighs_what_would_be_sent() {
        let text = "Angela Merkel met Emmanuel Macron in Berlin. Siemens is based in Munich.";
        let one = of(text, 1);
        assert_eq!(
            (one.mentions.calls, one.entities.calls, one.relations.calls),
            (1, 1, 1)
        );
        let longer = of(&format!("{text} {}", "It was so. ".repeat(40)), 1);
        let more = longer.mentions.prompt_tokens - one.mentions.prompt_tokens;
        assert!((110..=112).contains(&more), "{more}");
        assert!(one.mentions.completion_tokens >= 5 * MENTION);
        // The same chunk twice has its names once.
        let two = of(text, 2);
        assert_eq!(two.mentions.calls, 2);
        assert_eq!(two.entities, one.entities);
        assert_eq!(two.total().calls, 5);
        let none = of("nothing here", 1);
        assert_eq!((none.entities.calls, none.relations.calls), (0, 0));
    }
}
