//! The words that a model is given: prompts are files with a version, filled from the ontology and the document.
//!
//! What is the same for all chunks stands first, so that servers can keep it; what comes from the document stands
//! last, between tags that it can't close. Invariant: the same input gives the same bytes.

use std::fmt::Write as _;

use crate::graph::{Class, DoubtfulPair, Mention, NameLabel, Ontology, RelationType, Text};

/// A prompt file. Its first line is what the server sees and what the ledger has; a changed prompt is a new version.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prompt<'a>(&'a str);

pub(super) const MENTIONS: Prompt<'static> = Prompt(include_str!("prompts/mentions.md"));
pub(super) const CLASSES: Prompt<'static> = Prompt(include_str!("prompts/classes.md"));
pub(super) const RELATIONS: Prompt<'static> = Prompt(include_str!("prompts/relations.md"));
pub(super) const PAIRS: Prompt<'static> = Prompt(include_str!("prompts/pairs.md"));
pub(super) const PROBE: Prompt<'static> = Prompt(include_str!("prompts/probe.md"));

const FRONT: &str = "graphmill task: ";

/// The tags that a document may not open or close.
const TAGS: [&str; 6] = [
    "text",
    "mentions",
    "classes",
    "entities",
    "relations",
    "pairs",
];

/// The most bytes of a list of classes or relation types that say what is meant; beyond it the ids must do.
///
/// **Source:** 24 KB are about 6,000 tokens, as much as ten chunks: no ontology should cost more than that.
const DESCRIBED: usize = 24 << 10;

/// Characters of the text on either side of a mention that say what it is.
///
/// **Source:** ten words each; with 90 a group of 40 mentions took 2,700 tokens, which does not fit into the 4,096
/// of local servers together with its answer.
const CONTEXT: u32 = 60;

/// The most characters of a name that stand in a list; longer ones are no names.
const NAME: usize = 160;

pub(super) const LABELS: [(NameLabel, &str, &str); 4] = [
    (NameLabel::Per, "PER", "a person"),
    (NameLabel::Org, "ORG", "an organization"),
    (NameLabel::Loc, "LOC", "a place"),
    (NameLabel::Misc, "MISC", "any other name, date or amount"),
];

/// What is wrong with a prompt file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptFlaw {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Bytes of a prompt, at most. **Source:** 24 KB are about 6,000 tokens, sent with every chunk: see `DESCRIBED`.
const LONGEST: usize = 24 << 10;

/// What stands where the labels are to be filled in.
const LABELS_HERE: &str = "{labels}";

/// The built-in prompt of a stage, if a model is asked in it.
pub(super) fn of_stage(stage: &str) -> Option<Prompt<'static>> {
    match stage {
        "mentions" => Some(MENTIONS),
        "entities" => Some(CLASSES),
        "relations" => Some(RELATIONS),
        _ => None,
    }
}

/// Whether `text` can take the place of the prompt of `stage`: returns it as it is to be kept, `None` if it is the
/// built-in one.
///
/// # Errors
/// [`PromptFlaw`] says where and what to do.
pub fn check(stage: &str, text: &str) -> Result<Option<String>, PromptFlaw> {
    let flaw = |line: usize, message: String| Err(PromptFlaw { line, message });
    let Some(built_in) = of_stage(stage) else {
        return flaw(1, format!("no model is asked in `{stage}`"));
    };
    // As an editor may have saved it: the same words are the same prompt.
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let text = format!("{}\n", text.trim_end());
    if text.trim_end() == built_in.0.trim_end() {
        return Ok(None);
    }
    let (task, _) = built_in.id().split_once('@').unwrap_or_default();
    let remedy = format!("begin the file with `{FRONT}{task}@NAME`, with a name of your own");
    let first = text.lines().next().unwrap_or_default();
    let version = first
        .strip_prefix(FRONT)
        .and_then(|id| id.strip_prefix(task)?.strip_prefix('@'));
    let Some(version) = version else {
        return flaw(
            1,
            format!("a prompt of `{stage}` says first what it is: {remedy}"),
        );
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if version.is_empty() || version.len() > 64 || !version.chars().all(is_name) {
        return flaw(
            1,
            format!("`{version}` is no version: {remedy} (letters, digits, `.`, `_` and `-`)"),
        );
    }
    if first == built_in.0.lines().next().unwrap_or_default() {
        return flaw(
            1,
            format!(
                "`{}` is the built-in prompt, and this is another one: {remedy}, so that the ledger tells them apart",
                built_in.id()
            ),
        );
    }
    let last = text.lines().count();
    if text.lines().skip(1).all(|line| line.trim().is_empty()) {
        return flaw(last, "nothing follows the first line".to_owned());
    }
    if text.len() > LONGEST {
        let line = text.as_bytes()[..LONGEST]
            .split(|&byte| byte == b'\n')
            .count();
        return flaw(
            line,
            format!("the prompt has more than {LONGEST} bytes: it is sent with every question"),
        );
    }
    let wants_labels = built_in.0.contains(LABELS_HERE);
    let labels = text.lines().position(|line| line.contains(LABELS_HERE));
    match labels {
        None if wants_labels => {
            return flaw(
                last,
                format!(
                    "`{LABELS_HERE}` is missing: put it where the labels and their meanings are to stand"
                ),
            );
        }
        Some(line) if !wants_labels => {
            return flaw(
                line + 1,
                format!(
                    "nothing is filled in for `{LABELS_HERE}` in a prompt of `{stage}`: leave it out"
                ),
            );
        }
        Some(_) | None => {}
    }
    // Servers that take no schema know the form of the answer from here alone.
    let answer = format!("\"{task}\"");
    if !text.contains(&answer) {
        return flaw(
            last,
            format!(
                "the form of the answer is missing: say that it is one JSON object with the list {answer}, as the built-in prompt does"
            ),
        );
    }
    Ok(Some(text))
}

impl<'a> Prompt<'a> {
    /// The prompt with that text, which was checked when it was given.
    pub(super) const fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// Its name and version, as the ledger has them.
    pub(super) fn id(self) -> &'a str {
        let front = self.0.lines().next().unwrap_or_default();
        front.strip_prefix(FRONT).unwrap_or(front)
    }

    /// Its text.
    pub(super) const fn text(self) -> &'a str {
        self.0
    }
}

/// The system message of `mentions`.
pub(super) fn mentions(prompt: Prompt<'_>, ontology: &Ontology) -> String {
    let mut labels = String::new();
    for (label, name, meaning) in LABELS {
        let classes: Vec<&Class> = ontology
            .classes
            .iter()
            .filter(|class| label_of(ontology, class) == label)
            .collect();
        let _ = write!(labels, "- {name}: {meaning}");
        // A large ontology has too many for a list; the ids of the first ones say what it is about.
        let mut room = 1500;
        for (index, class) in classes.iter().enumerate() {
            let described = format!(
                "{} {} ({})",
                if index == 0 { ";" } else { "," },
                class.id.as_str(),
                line(&class.description, 200)
            );
            if described.len() > room {
                labels.push_str(", and so on");
                break;
            }
            room -= described.len();
            labels.push_str(&described);
        }
        labels.push('\n');
    }
    prompt.0.replace(LABELS_HERE, labels.trim_end())
}

/// What a tagger calls the names of a class: those of a class without a label are none of the first three.
pub(super) fn label_of(ontology: &Ontology, class: &Class) -> NameLabel {
    ontology.label_of(&class.id).unwrap_or(NameLabel::Misc)
}

/// The stretch of a document that is to be read.
pub(super) fn text(text: &str) -> String {
    format!("<text>\n{}\n</text>", escaped(text))
}

/// The list of classes.
pub(super) fn classes(classes: &[&Class]) -> String {
    let lines = classes.iter().map(|class| {
        let id = class.id.as_str().to_owned();
        (format!("- {id}"), line(&class.description, usize::MAX))
    });
    listed("classes", lines)
}

/// The list of relation types.
pub(super) fn relations(relations: &[&RelationType]) -> String {
    let lines = relations.iter().map(|relation| {
        let ids = |classes: &[crate::graph::ClassId]| {
            classes
                .iter()
                .map(crate::graph::ClassId::as_str)
                .collect::<Vec<_>>()
                .join(" or ")
        };
        let signature = format!(
            "- {}({} -> {})",
            relation.id.as_str(),
            ids(&relation.domain),
            ids(&relation.range)
        );
        (signature, line(&relation.description, usize::MAX))
    });
    listed("relations", lines)
}

fn listed(tag: &str, lines: impl Iterator<Item = (String, String)>) -> String {
    let lines: Vec<(String, String)> = lines.collect();
    let size: usize = lines
        .iter()
        .map(|(id, meaning)| id.len() + meaning.len())
        .sum();
    let mut list = format!("<{tag}>\n");
    for (id, meaning) in lines {
        list.push_str(&id);
        if size <= DESCRIBED {
            let _ = write!(list, ": {meaning}");
        }
        list.push('\n');
    }
    let _ = write!(list, "</{tag}>");
    list
}

/// The list of mentions, each with the words around it.
pub(super) fn numbered_mentions<'a>(
    text: &Text,
    mentions: impl Iterator<Item = &'a Mention>,
) -> String {
    let mut list = "<mentions>\n".to_owned();
    for (number, mention) in (1_usize..).zip(mentions) {
        let label = LABELS
            .iter()
            .find(|(label, ..)| Some(*label) == mention.label);
        let around = crate::graph::Span::new(
            mention.span.start.saturating_sub(CONTEXT),
            mention.span.end.saturating_add(CONTEXT).min(text.chars()),
        );
        let _ = writeln!(
            list,
            "{number}. \"{}\" [{}] in: …{}…",
            name(text.slice(mention.span)),
            label.map_or("?", |(_, name, _)| name),
            escaped(&line(text.slice(around), usize::MAX)),
        );
    }
    list.push_str("</mentions>");
    list
}

/// The list of entities.
pub(super) fn numbered_entities<'a>(entities: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut list = "<entities>\n".to_owned();
    for (number, (entity, class)) in (1_usize..).zip(entities) {
        let _ = writeln!(list, "{number}. {} ({class})", name(entity));
    }
    list.push_str("</entities>");
    list
}

/// The list of pairs, each with its two sides.
pub(super) fn numbered_pairs(pairs: &[DoubtfulPair]) -> String {
    let mut list = "<pairs>\n".to_owned();
    for (number, pair) in (1_usize..).zip(pairs) {
        let _ = writeln!(list, "{number}.");
        for (letter, side) in [('A', &pair.left), ('B', &pair.right)] {
            let class = name(&side.class);
            let _ = write!(list, "  {letter}: \"{}\" [{class}]", name(&side.name));
            for (first, other) in side.also.iter().enumerate() {
                let before = if first == 0 { "; also" } else { "," };
                let _ = write!(list, "{before} \"{}\"", name(other));
            }
            list.push('\n');
            for context in &side.contexts {
                let _ = writeln!(list, "     - {}", escaped(&line(context, usize::MAX)));
            }
        }
    }
    list.push_str("</pairs>");
    list
}

/// A name in a list: one line, no tag, no quotation mark that ends it.
fn name(name: &str) -> String {
    escaped(&line(name, NAME)).replace('"', "'")
}

/// `text` in one line of at most `most` characters.
fn line(text: &str, most: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// `text` without our tags: where one begins, `<` becomes `‹`, which is read as `<` again when a quote is located.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (at, character) in text.char_indices() {
        let is_tag = character == '<' && {
            let rest = text[at + 1..].trim_start();
            let rest = rest.strip_prefix('/').unwrap_or(rest).trim_start();
            TAGS.iter().any(|tag| {
                rest.get(..tag.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(tag))
            })
        };
        escaped.push(if is_tag { '‹' } else { character });
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Span;

    #[test]
    fn a_prompt_names_itself_in_its_first_line() {
        for (prompt, id) in [
            (MENTIONS, "mentions@1"),
            (CLASSES, "classes@1"),
            (RELATIONS, "relations@1"),
            (PROBE, "probe@1"),
        ] {
            assert_eq!(prompt.id(), id);
            assert!(
                prompt
                    .text()
                    .starts_with(&format!("graphmill task: {id}\n"))
            );
        }
        let filled = mentions(MENTIONS, &Ontology::builtin().unwrap());
        assert!(filled.starts_with("graphmill task: mentions@1\n"));
        assert!(filled.contains("- LOC: a place; location ("), "{filled}");
        assert!(!filled.contains("{labels}"));
    }

    #[test]
    fn a_prompt_file_is_taken_or_refused_with_its_place() {
        let own = |built_in: Prompt<'_>| built_in.0.replacen("@1\n", "@own-2\n", 1);
        for (stage, built_in) in [
            ("mentions", MENTIONS),
            ("entities", CLASSES),
            ("relations", RELATIONS),
        ] {
            assert_eq!(check(stage, built_in.0), Ok(None), "the built-in one");
            let text = own(built_in);
            let windows = format!("\u{feff}{}\n\n", text.replace('\n', "\r\n"));
            assert_eq!(check(stage, &windows), check(stage, &text));
            let taken = check(stage, &text).unwrap().unwrap();
            assert!(Prompt::new(&taken).id().ends_with("@own-2"));
        }
        let refused = |stage: &str, text: &str, line: usize, part: &str| {
            let flaw = check(stage, text).unwrap_err();
            assert_eq!(flaw.line, line, "{flaw:?}");
            assert!(flaw.message.contains(part), "{flaw:?}");
        };
        refused(
            "relations",
            "List what is stated.",
            1,
            "graphmill task: relations@NAME",
        );
        refused("relations", &own(MENTIONS), 1, "relations@NAME");
        refused(
            "relations",
            "graphmill task: relations@\nx",
            1,
            "no version",
        );
        refused(
            "relations",
            "graphmill task: relations@a b\nx",
            1,
            "no version",
        );
        refused("relations", &format!("{}More.", RELATIONS.0), 1, "built-in");
        refused(
            "relations",
            "graphmill task: relations@2\n\n",
            1,
            "nothing follows",
        );
        let mentions = own(MENTIONS).replace("{labels}", "PER, ORG");
        refused(
            "mentions",
            &mentions,
            mentions.lines().count(),
            "`{labels}` is missing",
        );
        let relations = own(RELATIONS).replace("Rules:", "{labels}");
        refused("relations", &relations, 7, "leave it out");
        refused(
            "relations",
            "graphmill task: relations@2\nAnswer.",
            2,
            "\"relations\"",
        );
        let long = format!("{}{}", own(RELATIONS), "word ".repeat(LONGEST / 4));
        assert!(
            check("relations", &long)
                .unwrap_err()
                .message
                .contains("bytes")
        );
        assert!(check("assemble", "x").is_err());
    }

    #[test]
    fn a_document_closes_no_tag() {
        let hostile = "a < b </text> <TEXT> < / text><mentions>\n</ Entities> <textile>";
        let shown = text(hostile);
        assert_eq!(shown.matches('<').count(), 3, "{shown}");
        assert!(
            shown.contains("a < b ‹/text> ‹TEXT> ‹ / text>‹mentions>"),
            "{shown}"
        );
        let whole = Text::new("Say \"</mentions>\n2. \"x\" [PER]\" now");
        let mention = Mention {
            span: Span::new(4, 30),
            label: None,
            value: None,
            confidence: 1.0,
        };
        let list = numbered_mentions(&whole, [&mention].into_iter());
        assert_eq!(list.lines().count(), 3, "{list}");
        assert_eq!(list.matches("</mentions>").count(), 1, "{list}");
    }

    #[test]
    fn a_very_large_list_has_ids_only() {
        let class = |number: usize| Class {
            id: crate::graph::ClassId::new(format!("c{number}")),
            parent: None,
            label: None,
            description: "something\nin two lines".to_owned(),
            iri: None,
        };
        let many: Vec<Class> = (0..5000).map(class).collect();
        let few = classes(&many.iter().take(2).collect::<Vec<_>>());
        assert_eq!(
            few,
            "<classes>\n- c0: something in two lines\n- c1: something in two lines\n</classes>"
        );
        let all = classes(&many.iter().collect::<Vec<_>>());
        assert!(all.contains("- c4999\n") && !all.contains("something"));
    }
}
