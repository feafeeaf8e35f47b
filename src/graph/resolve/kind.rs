//! What kind of thing a class is, which decides what may be one with what.
//!
//! A class comes from any corpus or ontology, so it is known by its word. A word that nobody here knows is a soft kind:
//! it contradicts nothing.

use crate::graph::{ClassId, NameLabel};

/// A coarse kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Person,
    Organization,
    Place,
    /// A nationality, faith or persuasion; "German" is not Germany.
    Group,
    Language,
    Event,
    Work,
    Product,
    Award,
    /// A date, a sum, a number.
    Amount,
    /// `MISC`, or a word that is not known here.
    Soft,
    /// No class at all.
    Untyped,
}

/// The words of each kind: labels of taggers, classes of common ontologies and corpora. Lower case, letters only.
const WORDS: [(Kind, &str); 10] = [
    (
        Kind::Person,
        " per pers person people peop human humans man woman politician writer author musician musicalartist artist \
         actor scientist researcher athlete player character fictionalcharacter journalist president ",
    ),
    (
        Kind::Organization,
        " org organization organisation orga company corporation corp business institution institute agency \
         government governmentagency party politicalparty band team sportsteam sportsclub club university school bank \
         newspaper publisher nonprofit ",
    ),
    (
        Kind::Place,
        " loc location place gpe gpeloc geo geoloc country city town village state province region county continent \
         facility fac building airport street river lake mountain island ocean sea landmark settlement \
         administrativearea ",
    ),
    (
        Kind::Group,
        " norp group nationality ethnicity ethnicgroup religion religiousgroup faith ideology demonym ",
    ),
    (Kind::Language, " language lang "),
    (
        Kind::Event,
        " event evt war battle election tournament conference festival disaster sportsevent ",
    ),
    (
        Kind::Work,
        " work workofart creativework art book film movie song album poem painting series tvshow tvseries law treaty \
         document magazine videogame ",
    ),
    (
        Kind::Product,
        " product prod vehicle veh weapon wea device software drug brand ship aircraft ",
    ),
    (Kind::Award, " award prize "),
    (
        Kind::Amount,
        " date time duration money percent percentage quantity number num cardinal ordinal value currency age url \
         email ",
    ),
];

impl Kind {
    pub(super) fn of(class: Option<&ClassId>, label: Option<NameLabel>) -> Self {
        let Some(class) = class else {
            return label.map_or(Self::Untyped, Self::of_label);
        };
        match Self::of_word(class.as_str()) {
            // The ontology knows its own classes best, but MISC says no more than nothing.
            known @ Some(_) if matches!(label, None | Some(NameLabel::Misc)) => {
                known.unwrap_or(Self::Soft)
            }
            _ => label.map_or(Self::Soft, Self::of_label),
        }
    }

    fn of_label(label: NameLabel) -> Self {
        match label {
            NameLabel::Per => Self::Person,
            NameLabel::Org => Self::Organization,
            NameLabel::Loc => Self::Place,
            NameLabel::Misc => Self::Soft,
        }
    }

    /// `B-PER`, `schema:Person` and `https://schema.org/Person` all end in their word.
    fn of_word(class: &str) -> Option<Self> {
        let class = class
            .strip_prefix("B-")
            .or_else(|| class.strip_prefix("I-"))
            .unwrap_or(class);
        let class = class.rsplit(['/', '#', ':']).next().unwrap_or(class);
        let word: String = class.chars().filter(|c| c.is_alphabetic()).collect();
        let word = format!(" {} ", word.to_lowercase());
        WORDS
            .iter()
            .find(|(_, words)| word.len() > 2 && words.contains(&word))
            .map(|&(kind, _)| kind)
    }

    /// What a tagger calls its names.
    pub(super) fn label(self) -> NameLabel {
        match self {
            Self::Person => NameLabel::Per,
            Self::Organization => NameLabel::Org,
            Self::Place => NameLabel::Loc,
            Self::Group
            | Self::Language
            | Self::Event
            | Self::Work
            | Self::Product
            | Self::Award
            | Self::Amount
            | Self::Soft
            | Self::Untyped => NameLabel::Misc,
        }
    }

    /// Whether it may turn out to be of any other kind.
    pub(super) fn is_soft(self) -> bool {
        matches!(self, Self::Soft | Self::Untyped)
    }

    /// Whether a thing of this kind can't be one of the `other`.
    pub(super) fn conflicts(self, other: Self) -> bool {
        self != other && !self.is_soft() && !other.is_soft()
    }
}
