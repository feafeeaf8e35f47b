//! The typed patterns: which words state which relation, and where its two ends stand.

/// Where a relation's ends stand around the word that states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Subject, verb, object: "X founded Y". Its passive is read as well: "Y was founded by X".
    Verb,
    /// Subject, verb, preposition, object: "X worked for Y".
    Prepositional,
    /// Object, verb, preposition, subject: "a film written by X", "Y, owned by X" read the other way round.
    Reversed,
    /// Subject, "is" or a comma, noun, preposition, object: "X was a professor at Y".
    Noun,
    /// Owner, noun, object: "his wife Y", "X's novel Y".
    Possessed,
}

/// A relation and the words that state it.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) relation: &'static str,
    pub(super) shape: Shape,
    /// In lower case, separated by spaces.
    pub(super) words: &'static str,
    /// The prepositions that lead to the far end, separated by spaces.
    pub(super) links: &'static str,
}

const fn pattern(
    relation: &'static str,
    shape: Shape,
    words: &'static str,
    links: &'static str,
) -> Pattern {
    Pattern {
        relation,
        shape,
        words,
        links,
    }
}

/// In the order in which they are tried; the first that the ontology allows is taken.
pub(super) const PATTERNS: &[Pattern] = &[
    pattern("born_in", Shape::Prepositional, "born", "in at near"),
    pattern("died_in", Shape::Prepositional, "died", "in at near"),
    pattern(
        "lives_in",
        Shape::Prepositional,
        "lived lives living resides resided settled raised",
        "in at",
    ),
    pattern("lives_in", Shape::Prepositional, "grew", "in"),
    pattern(
        "lives_in",
        Shape::Prepositional,
        "moved emigrated relocated immigrated",
        "to",
    ),
    pattern(
        "works_for",
        Shape::Prepositional,
        "worked works working taught teaches lectured",
        "for at with",
    ),
    pattern(
        "works_for",
        Shape::Prepositional,
        "plays played signed",
        "for with",
    ),
    pattern("works_for", Shape::Verb, "joined joins", ""),
    pattern("works_for", Shape::Prepositional, "employed hired", "by"),
    pattern(
        "works_for",
        Shape::Noun,
        "president chairman chairwoman chair director ceo professor lecturer member manager coach editor head leader \
         captain employee secretary chancellor dean executive officer engineer researcher scientist guitarist drummer \
         vocalist bassist keyboardist commander principal mathematician programmer consultant rector fellow",
        "of at for with",
    ),
    pattern(
        "educated_at",
        Shape::Prepositional,
        "studied educated graduated enrolled matriculated",
        "at from",
    ),
    pattern("educated_at", Shape::Verb, "attended attends", ""),
    pattern(
        "educated_at",
        Shape::Prepositional,
        "degree doctorate phd ph.d ph.d. b.a. b.s. m.a. bachelor master mba diploma",
        "from at",
    ),
    pattern(
        "educated_at",
        Shape::Noun,
        "alumnus alumna graduate student",
        "of at",
    ),
    pattern(
        "founded",
        Shape::Verb,
        "founded co-founded cofounded established formed started",
        "",
    ),
    pattern(
        "founded",
        Shape::Noun,
        "founder co-founder cofounder founders",
        "of",
    ),
    pattern("married_to", Shape::Verb, "married marries wed", ""),
    pattern("married_to", Shape::Prepositional, "married", "to"),
    pattern("married_to", Shape::Possessed, "wife husband spouse", ""),
    pattern("married_to", Shape::Noun, "wife husband widow", "of"),
    pattern(
        "killed",
        Shape::Verb,
        "killed murdered assassinated shot slew",
        "",
    ),
    pattern(
        "based_in",
        Shape::Prepositional,
        "based headquartered",
        "in at near",
    ),
    pattern(
        "based_in",
        Shape::Prepositional,
        "headquarters offices",
        "in at",
    ),
    pattern(
        "located_in",
        Shape::Prepositional,
        "located situated lies lying stands",
        "in within on",
    ),
    pattern(
        "located_in",
        Shape::Noun,
        "city town village municipality capital river mountain lake island commune suburb district neighborhood \
         neighbourhood county province township community settlement hamlet region park building station airport \
         stadium castle bridge street road highway peninsula square community parish port area town church house",
        "in within on",
    ),
    pattern(
        "located_in",
        Shape::Noun,
        "capital suburb borough neighborhood neighbourhood district",
        "of",
    ),
    pattern(
        "based_in",
        Shape::Noun,
        "university college school company club team band bank airline newspaper museum institute organization party label network hospital",
        "in from",
    ),
    pattern(
        "acquired",
        Shape::Verb,
        "acquired bought purchased acquires",
        "",
    ),
    pattern(
        "part_of",
        Shape::Noun,
        "subsidiary division part branch unit affiliate arm member",
        "of",
    ),
    pattern("part_of", Shape::Prepositional, "owned", "by"),
    pattern(
        "part_of",
        Shape::Noun,
        "song single track episode",
        "from of on",
    ),
    pattern(
        "created",
        Shape::Verb,
        "wrote composed directed designed painted developed invented published recorded released produced created \
         built written authored programmed",
        "",
    ),
    pattern(
        "created",
        Shape::Noun,
        "author creator director writer composer designer inventor developer",
        "of",
    ),
    pattern(
        "created",
        Shape::Reversed,
        "film novel album song single book poem play painting opera series game ep video",
        "by",
    ),
    pattern(
        "created",
        Shape::Possessed,
        "film novel album single book poem opera",
        "",
    ),
];
