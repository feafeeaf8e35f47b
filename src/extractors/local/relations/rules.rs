//! The rules, read from `rules.txt`: what stands before, between and after the two ends of a relation.
//!
//! Must not know what a sentence is; [`super::matching`] holds rules against sentences.

use std::sync::LazyLock;

use super::vocabulary::{Bits, Vocabulary};

/// How the left end of a rule stands to what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    /// The rule's next part stands right behind the name.
    Next,
    /// The next part is a verb in the active voice, and the left end its subject.
    Active,
    /// The next part is a participle, and the left end its subject or the noun that it describes.
    Participle,
}

/// One part of a rule.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// `least` to `most` items, each with one of the meanings.
    Items { bits: Bits, least: u8, most: u8 },
    /// The right end.
    End,
    /// Perhaps something in brackets, or an age between commas.
    Aside,
}

/// One rule.
#[derive(Debug)]
pub(super) struct Rule {
    /// The hash of its text, which the scorer knows it by: other rules may come and go.
    pub(super) key: u64,
    /// Index into [`Rules::relations`].
    pub(super) relation: usize,
    pub(super) confidence: f32,
    pub(super) anchor: Anchor,
    /// Who is under the head is no head: "vice president".
    pub(super) head: bool,
    /// Its object is one thing, so that an enumeration adds only what holds it: "in Gary, Indiana".
    pub(super) single: bool,
    /// Whether the left end is the object.
    pub(super) reversed: bool,
    /// What the left and the right end must be besides what the ontology wants.
    pub(super) ends: (Bits, Bits),
    /// What stands before the left end, from right to left.
    pub(super) before: Vec<Part>,
    /// What stands between and after, from left to right, the right end among it.
    pub(super) after: Vec<Part>,
    /// What must be there between the ends: the rule is not tried without one of each.
    pub(super) needed: Vec<Bits>,
    /// The meanings of the verb, for a rule that has one.
    pub(super) verb: Bits,
}

/// Words that decide whether something is stated at all, and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grammar {
    pub(super) function: Bits,
    pub(super) be: Bits,
    pub(super) denial: Bits,
    pub(super) doubt: Bits,
    pub(super) hedge: Bits,
    pub(super) preposition: Bits,
    pub(super) determiner: Bits,
    pub(super) kin: Bits,
    pub(super) saying: Bits,
    pub(super) clause: Bits,
    pub(super) relative: Bits,
    pub(super) role: Bits,
    pub(super) title: Bits,
    pub(super) adverb: Bits,
    pub(super) he: Bits,
    pub(super) she: Bits,
    pub(super) it: Bits,
    pub(super) other_pronoun: Bits,
    pub(super) company: Bits,
    pub(super) town: Bits,
    pub(super) piece: Bits,
    pub(super) open: Bits,
    pub(super) close: Bits,
    pub(super) comma: Bits,
    pub(super) and: Bits,
    pub(super) of: Bits,
    pub(super) the: Bits,
    pub(super) possessive: Bits,
    pub(super) pause: Bits,
    pub(super) question: Bits,
    pub(super) quote: Bits,
    pub(super) party: Bits,
    pub(super) under: Bits,
    pub(super) within: Bits,
    pub(super) inside: Bits,
}

/// Relations whose object is one thing.
const SINGLE: &[&str] = &[
    "born_in",
    "died_in",
    "located_in",
    "capital_of",
    "married_to",
    "sibling_of",
];

/// All that is compiled in.
pub(super) struct Rules<'a> {
    pub(super) vocabulary: Vocabulary<'a>,
    pub(super) grammar: Grammar,
    /// The ids of the relations that have rules.
    pub(super) relations: Vec<&'a str>,
    /// Rules whose left end is a name with the next part behind it.
    pub(super) nominal: Vec<Rule>,
    /// Rules whose left end is a verb's subject.
    pub(super) verbal: Vec<Rule>,
    /// The verbs that the verbal rules begin with.
    pub(super) verbs: Bits,
}

/// A place in `rules.txt` that makes no rule. A bug, which a test finds.
#[derive(Debug, thiserror::Error)]
#[error("rules.txt, line {line}: {reason}")]
pub(super) struct RuleError {
    line: usize,
    reason: String,
}

static RULES: LazyLock<Rules<'static>> = LazyLock::new(|| {
    let (rules, _) = Rules::read(
        include_str!("rules.txt"),
        include_str!("lexicon.txt"),
        include_str!("regions.txt"),
    );
    rules
});

/// The rules that are compiled in.
pub(super) fn rules() -> &'static Rules<'static> {
    &RULES
}

impl<'a> Rules<'a> {
    /// Reads rules; lines that make none are left out and named.
    pub(super) fn read(
        rules: &'a str,
        lexicon: &'a str,
        regions: &'a str,
    ) -> (Self, Vec<RuleError>) {
        let mut vocabulary = Vocabulary::read(lexicon, regions);
        let mut read = Self {
            grammar: grammar(&mut vocabulary),
            vocabulary,
            relations: Vec::new(),
            nominal: Vec::new(),
            verbal: Vec::new(),
            verbs: Bits::default(),
        };
        let mut errors = Vec::new();
        for (line, text) in rules.lines().enumerate() {
            let text = text.split_once('#').map_or(text, |(rule, _)| rule).trim();
            if text.is_empty() {
                continue;
            }
            match read.rule(text) {
                Ok(rule) if rule.anchor == Anchor::Next => read.nominal.push(rule),
                Ok(rule) => {
                    read.verbs |= rule.verb;
                    read.verbal.push(rule);
                }
                Err(reason) => errors.push(RuleError {
                    line: line + 1,
                    reason,
                }),
            }
        }
        (read, errors)
    }

    fn rule(&mut self, text: &'a str) -> Result<Rule, String> {
        let mut words = text.split_whitespace();
        let relation = words.next().ok_or("no relation")?;
        let confidence = words
            .next()
            .and_then(|word| word.parse().ok())
            .ok_or("no confidence")?;
        let relation = self
            .relations
            .iter()
            .position(|known| *known == relation)
            .unwrap_or_else(|| {
                self.relations.push(relation);
                self.relations.len() - 1
            });
        let mut rule = Rule {
            key: text.split_whitespace().fold(0, |key: u64, word| {
                key.rotate_left(7) ^ super::scorer::hashed(word)
            }),
            relation,
            confidence,
            anchor: Anchor::Next,
            head: self.relations[relation] == "leads",
            single: SINGLE.contains(&self.relations[relation]),
            reversed: false,
            ends: (Bits::MENTION, Bits::MENTION),
            before: Vec::new(),
            after: Vec::new(),
            needed: Vec::new(),
            verb: Bits::default(),
        };
        let mut ends = 0;
        for word in words {
            match word {
                "^a" => rule.anchor = Anchor::Active,
                "^p" => rule.anchor = Anchor::Participle,
                "~" => rule.side(ends).push(Part::Aside),
                _ if word.starts_with(['S', 'O']) => {
                    let kind = match word.split_once(':') {
                        Some((_, kinds)) => self.meanings(kinds)?,
                        None => Bits::MENTION,
                    };
                    ends += 1;
                    if ends == 1 {
                        rule.reversed = word.starts_with('O');
                        rule.ends.0 = kind;
                    } else {
                        rule.ends.1 = kind;
                        rule.after.push(Part::End);
                    }
                }
                _ => {
                    let part = self.part(word)?;
                    if let Part::Items { bits, least, .. } = part
                        && ends == 1
                        && least > 0
                    {
                        if rule.verb == Bits::default() {
                            rule.verb = bits;
                        }
                        rule.needed.push(bits);
                    }
                    rule.side(ends).push(part);
                }
            }
        }
        if ends != 2 {
            return Err(format!("{ends} ends"));
        }
        if rule.anchor != Anchor::Next
            && !matches!(rule.after.first(), Some(Part::Items { least: 1, .. }))
        {
            return Err("no verb behind the subject".to_owned());
        }
        rule.before.reverse();
        Ok(rule)
    }

    fn part(&mut self, word: &'a str) -> Result<Part, String> {
        let (word, least, most) = match word.char_indices().next_back() {
            Some((at, '?')) if at > 0 => (&word[..at], 0, 1),
            Some((at, '*')) if at > 0 => (&word[..at], 0, 6),
            Some((at, '+')) if at > 0 => (&word[..at], 1, 6),
            _ => (word, 1, 1),
        };
        let bits = self.meanings(word)?;
        Ok(Part::Items { bits, least, most })
    }

    fn meanings(&mut self, alternatives: &'a str) -> Result<Bits, String> {
        let mut bits = Bits::default();
        for word in alternatives.split('|') {
            bits |= match word {
                "_" => Bits::WORD | Bits::NUMBER | Bits::MISC,
                "per" => Bits::PERSON,
                "org" => Bits::ORGANIZATION,
                "loc" => Bits::LOCATION,
                "misc" => Bits::MISC,
                "date" => Bits::DATE,
                "region" => Bits::REGION,
                "town" => Bits::TOWN,
                "num" => Bits::NUMBER | Bits::VALUE,
                "cap" => Bits::CAPITAL,
                _ => match word.strip_prefix('@') {
                    Some(group) => self
                        .vocabulary
                        .known_group(group)
                        .ok_or_else(|| format!("no group `{group}`"))?,
                    None => self.vocabulary.literal(word),
                },
            };
        }
        Ok(bits)
    }
}

impl Rule {
    fn side(&mut self, ends: usize) -> &mut Vec<Part> {
        if ends == 0 {
            &mut self.before
        } else {
            &mut self.after
        }
    }
}

fn grammar(vocabulary: &mut Vocabulary<'_>) -> Grammar {
    let group = |name| vocabulary.known_group(name).unwrap_or_default();
    Grammar {
        function: group("function"),
        be: group("be"),
        denial: group("denial"),
        doubt: group("doubt"),
        hedge: group("hedge"),
        preposition: group("preposition"),
        determiner: group("det"),
        kin: group("kin"),
        saying: group("saying"),
        clause: group("clause"),
        relative: group("relative"),
        role: group("role") | group("leader"),
        title: group("title"),
        adverb: group("adverb"),
        he: group("he"),
        she: group("she"),
        it: group("it"),
        other_pronoun: group("other-pronoun"),
        company: group("company-noun"),
        town: group("town-noun"),
        piece: group("piece-noun"),
        quote: group("quote"),
        party: group("party"),
        under: group("under"),
        inside: group("inside"),
        pause: group("pause"),
        question: group("question"),
        within: vocabulary.literal("in"),
        open: vocabulary.literal("("),
        close: vocabulary.literal(")"),
        comma: vocabulary.literal(","),
        and: vocabulary.literal("and"),
        of: vocabulary.literal("of"),
        the: vocabulary.literal("the"),
        possessive: vocabulary.literal("'s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_makes_a_rule_and_every_meaning_has_its_bit() {
        let (rules, errors) = Rules::read(
            include_str!("rules.txt"),
            include_str!("lexicon.txt"),
            include_str!("regions.txt"),
        );
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert!(errors.is_empty(), "{errors:?}");
        assert!(
            rules.vocabulary.bits() <= 384,
            "{}",
            rules.vocabulary.bits()
        );
        assert!(rules.relations.len() >= 25, "{:?}", rules.relations);
    }

    #[test]
    fn every_relation_with_a_rule_is_in_the_builtin_ontology() {
        let ontology = crate::graph::Ontology::builtin().unwrap();
        for relation in &rules().relations {
            let id = crate::graph::RelationTypeId::new(*relation);
            assert!(ontology.relation(&id).is_some(), "{relation}");
        }
    }
}
