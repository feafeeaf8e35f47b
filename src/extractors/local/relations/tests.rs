//! Sentences of our own for each family of rules, and for what must not be stated.

use super::*;
use crate::graph::{ClassId, NameLabel, Span, Text};

fn read(
    chunk: ChunkText<'_>,
    mentions: &[TypedMention],
    ontology: &Ontology,
) -> Vec<FoundRelation> {
    let by_rules = relations(chunk, mentions, ontology, RelationScorer::None);
    let scored = relations(chunk, mentions, ontology, RelationScorer::Lr);
    // The scorer changes how sure a relation is, not which there are.
    assert_eq!(by_rules.len(), scored.len());
    by_rules
}

/// Reads `text`, in which names stand as `[person Ada Brown]`; gives `subject relation object` lines, sorted.
fn stated(marked: &str) -> Vec<String> {
    let (text, mentions) = unmark(marked);
    let text = Text::new(text);
    let ontology = Ontology::builtin().unwrap();
    let chunk = ChunkText {
        text: &text,
        span: Span::new(0, text.chars()),
    };
    let found = read(chunk, &mentions, &ontology);
    assert_eq!(found, read(chunk, &mentions, &ontology));
    let mut lines = Vec::new();
    for relation in found {
        assert!(relation.evidence.contains(relation.object), "{relation:?}");
        assert!(relation.evidence.end <= text.chars());
        assert!((0.0..=1.0).contains(&relation.confidence));
        lines.push(format!(
            "{} {} {}",
            text.slice(relation.subject),
            relation.predicate.as_str(),
            text.slice(relation.object)
        ));
    }
    lines.sort();
    lines
}

fn unmark(marked: &str) -> (String, Vec<TypedMention>) {
    let (mut text, mut mentions) = (String::new(), Vec::new());
    let mut rest = marked;
    while let Some((before, opened)) = rest.split_once('[') {
        text.push_str(before);
        let (name, after) = opened.split_once(']').unwrap();
        let (class, name) = name.split_once(' ').unwrap();
        let start = u32::try_from(text.chars().count()).unwrap();
        text.push_str(name);
        let end = u32::try_from(text.chars().count()).unwrap();
        mentions.push(TypedMention {
            value: None,
            span: Span::new(start, end),
            label: match class {
                "person" => Some(NameLabel::Per),
                "organization" => Some(NameLabel::Org),
                "location" => Some(NameLabel::Loc),
                "date" => None,
                _ => Some(NameLabel::Misc),
            },
            class: ClassId::new(class),
            confidence: 1.0,
        });
        rest = after;
    }
    text.push_str(rest);
    (text, mentions)
}

/// Each sentence states the relation, whatever else it states.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of sentences")]
fn each_family_of_rules_finds_its_relation() {
    let cases = [
        (
            "[person Ann Lee], chief executive of [organization Orbit Corp.], spoke.",
            "Ann Lee works_for Orbit Corp.",
        ),
        (
            "[person Ann Lee], chief executive of [organization Orbit Corp.], spoke.",
            "Ann Lee leads Orbit Corp.",
        ),
        (
            "[organization Orbit] spokesman [person Tom Gray] spoke.",
            "Tom Gray works_for Orbit",
        ),
        (
            "[person Tom Gray] of [organization Orbit] spoke.",
            "Tom Gray works_for Orbit",
        ),
        (
            "[person Tom Gray], an [organization Orbit] engineer, spoke.",
            "Tom Gray works_for Orbit",
        ),
        (
            "[location Ohio] Gov. [person Tom Gray] spoke.",
            "Tom Gray lives_in Ohio",
        ),
        (
            "[person Tom Gray] grew up in [location Ulm].",
            "Tom Gray lives_in Ulm",
        ),
        (
            "[person Tom Gray], 83, of [location Dale], [location Ohio], spoke.",
            "Tom Gray lives_in Ohio",
        ),
        (
            "[person Ada] (born [date 3 May 1950] in [location Ulm]) is a poet.",
            "Ada born_in Ulm",
        ),
        (
            "[person Ada] (born [date 3 May 1950] in [location Ulm]) is a poet.",
            "Ada born_on 3 May 1950",
        ),
        (
            "[person Ada] ([date 1815] – [date 1852]) was a poet.",
            "Ada born_on 1815",
        ),
        (
            "[person Ada] ([date 1815] – [date 1852]) was a poet.",
            "Ada died_on 1852",
        ),
        ("[person Ada] died in [location Rome].", "Ada died_in Rome"),
        (
            "[person Ada] was a [group German] poet and painter.",
            "Ada citizen_of German",
        ),
        (
            "[person Ada] studied law at [organization Yale].",
            "Ada educated_at Yale",
        ),
        (
            "[person Ada] was married to [person Tom].",
            "Ada married_to Tom",
        ),
        (
            "[person Ada] and her husband, [person Tom], left.",
            "Ada married_to Tom",
        ),
        (
            "[person Ada] is the daughter of [person Tom].",
            "Tom parent_of Ada",
        ),
        (
            "[person Ada]'s brother [person Tom] left.",
            "Ada sibling_of Tom",
        ),
        (
            "[person Ada] shot [person Tom] in [location Rome].",
            "Ada killed Tom",
        ),
        (
            "The killing of [person Tom] by [person Ada] was a shock.",
            "Ada killed Tom",
        ),
        (
            "[person Ada], the assassin of [person Tom], was hanged.",
            "Ada killed Tom",
        ),
        (
            "[person Tom] was murdered in [location Rome] by [person Ada].",
            "Ada killed Tom",
        ),
        (
            "[person Ada] succeeded [person Tom] as mayor.",
            "Ada succeeded Tom",
        ),
        (
            "[person Ada] won the [award Nobel Prize].",
            "Ada received Nobel Prize",
        ),
        (
            "[person Ada] competed at the [event Olympic Games].",
            "Ada participated_in Olympic Games",
        ),
        (
            "[person Ada] played for [organization Ajax].",
            "Ada member_of Ajax",
        ),
        (
            "[organization Orbit] was founded by [person Ada], [person Tom] and [person Eve].",
            "Eve founded Orbit",
        ),
        (
            "[person Ada] and [person Tom] founded [organization Orbit].",
            "Ada founded Orbit",
        ),
        (
            "[organization Orbit] was founded in [date 1950].",
            "Orbit founded_on 1950",
        ),
        (
            "[organization Orbit], based in [location Ulm], makes pens.",
            "Orbit based_in Ulm",
        ),
        (
            "The [location Ulm]-based [organization Orbit] makes pens.",
            "Orbit based_in Ulm",
        ),
        (
            "[organization Orbit] has offices in [location Ulm] and [location Rome].",
            "Orbit based_in Rome",
        ),
        (
            "[location ULM], [location Germany] ([organization AP])",
            "AP based_in ULM",
        ),
        (
            "[organization Orbit] bought [organization Comet] in [date 1950].",
            "Orbit acquired Comet",
        ),
        (
            "[organization Comet] is owned by [organization Orbit].",
            "Orbit owns Comet",
        ),
        (
            "[organization Comet] is a subsidiary of [organization Orbit].",
            "Comet part_of Orbit",
        ),
        (
            "[location Ulm], [location Germany]",
            "Ulm located_in Germany",
        ),
        (
            "[location Ulm] is a city in [location Germany].",
            "Ulm located_in Germany",
        ),
        (
            "[location Rome], the capital of [location Italy], is old.",
            "Rome capital_of Italy",
        ),
        (
            "[location Italy] borders [location France].",
            "Italy borders France",
        ),
        (
            "The [event Expo] was held in [location Ulm] in [date 1950].",
            "Expo took_place_in Ulm",
        ),
        (
            "The [event Expo] was held in [location Ulm] in [date 1950].",
            "Expo took_place_on 1950",
        ),
        ("[person Ada] wrote [work Emma].", "Ada author_of Emma"),
        (
            "[work Emma] is a novel by [person Ada].",
            "Ada author_of Emma",
        ),
        (
            "[work Emma] was directed by [person Ada].",
            "Ada directed Emma",
        ),
        (
            "[person Ada] starred in [work Emma].",
            "Ada performed_in Emma",
        ),
        (
            "[organization Orbit] developed the [product Comet].",
            "Orbit created Comet",
        ),
        (
            "[work Emma] was published in [date 1815].",
            "Emma published_on 1815",
        ),
        ("[person Ada] speaks [language Latin].", "Ada speaks Latin"),
    ];
    let mut relations = std::collections::BTreeSet::new();
    for (marked, wanted) in cases {
        let found = stated(marked);
        assert!(
            found.iter().any(|line| line == wanted),
            "{marked}: {found:?}"
        );
        relations.extend(
            wanted
                .split(' ')
                .find(|word| word.contains('_') || !word.starts_with(char::is_uppercase))
                .map(str::to_owned),
        );
    }
    assert!(relations.len() >= 25, "{relations:?}");
}

#[test]
fn what_is_denied_asked_or_only_possible_is_not_stated() {
    for marked in [
        "[person Ada] did not found [organization Orbit].",
        "[person Ada] never worked for [organization Orbit].",
        "[person Ada] may have founded [organization Orbit].",
        "[person Ada] plans to join and would have joined [organization Orbit].",
        "[person Ada] denied that she killed [person Tom].",
        "[person Ada] denied she shot [person Tom].",
        "If [person Ada] married [person Tom], they left.",
        "Was [person Tom] killed by [person Ada]?",
        "[organization Orbit] was not founded by [person Ada].",
        "[organization Orbit] failed in acquiring [organization Comet].",
        "[organization Orbit] has considered acquiring [organization Comet].",
        "[person Ada] did not live and never lived in [location Ulm].",
        "Nobody believes that [person Ada] killed [person Tom].",
        "[person Ada] doubts that [person Tom] founded [organization Orbit].",
        "[person Ada] pretended to be the president of [organization Orbit].",
        "[person Ada] was acquitted of murdering [person Tom].",
    ] {
        assert_eq!(stated(marked), Vec::<String>::new(), "{marked}");
    }
}

#[test]
fn who_is_met_does_not_bear_the_title() {
    let found = stated("[person Ada], chancellor of [location Ulm], met [person Tom] there.");
    assert!(!found.is_empty());
    assert!(
        found.iter().all(|statement| !statement.contains("Tom")),
        "{found:?}"
    );
    let found = stated("The president of [location Ulm], Chief Judge [person Tom], left.");
    assert!(!found.is_empty());
}

#[test]
fn pronouns_stand_for_one_or_for_nobody() {
    assert_eq!(
        stated(
            "[person Ada Brown] was a poet. She was born in [location Rome]. She died in [location Ulm]."
        ),
        [
            "Ada Brown born_in Rome",
            "Ada Brown died_in Ulm",
            "Ada Brown lives_in Rome"
        ]
    );
    assert_eq!(
        stated("[person Ada Brown] was a poet. She left. He died in [location Ulm]."),
        Vec::<String>::new()
    );
    assert_eq!(
        stated("[organization Orbit] makes pens. The company is based in [location Ulm]."),
        ["Orbit based_in Ulm"]
    );
}

#[test]
fn an_ontology_without_the_relation_gets_none() {
    let (text, mentions) = unmark("[person Ada] married [person Tom].");
    let text = Text::new(text);
    let chunk = ChunkText {
        text: &text,
        span: Span::new(0, text.chars()),
    };
    let mut ontology = Ontology::builtin().unwrap();
    assert_eq!(read(chunk, &mentions, &ontology).len(), 1);
    for kind in &mut ontology.relations {
        kind.id.0.push('x');
    }
    assert!(read(chunk, &mentions, &ontology).is_empty());
}

#[test]
fn the_time_is_linear_in_names() {
    for unit in [
        "[person Ada] and ",
        "[person Ada], ",
        "[person Ada] ( ",
        "[organization Orbit] founded ",
        "[location Ulm] of ",
        "his wife [person Ada] ",
    ] {
        let (text, mentions) = unmark(&unit.repeat(5_000));
        let text = Text::new(text);
        let chunk = ChunkText {
            text: &text,
            span: Span::new(0, text.chars()),
        };
        let ontology = Ontology::builtin().unwrap();
        let begun = std::time::Instant::now();
        let _ = read(chunk, &mentions, &ontology);
        assert!(
            begun.elapsed().as_secs() < 10,
            "{unit:?} took {:?}",
            begun.elapsed()
        );
    }
}
