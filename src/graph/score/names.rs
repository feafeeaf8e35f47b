//! What corpora call the relation types of the built-in ontology.

use crate::graph::{GoldKind, NameLabel};

/// Relation types that say the same both ways.
pub(super) const SYMMETRIC: [&str; 3] = ["borders", "married_to", "sibling_of"];

/// The relation type that a corpus of sentences means; its own name if it is no other corpus's.
///
/// **Source:** the five relations of `CoNLL04`.
pub(super) fn of_sentence(name: &str) -> &str {
    match name {
        "Work_For" => "works_for",
        "Live_In" => "lives_in",
        "OrgBased_In" => "based_in",
        "Located_In" => "located_in",
        "Kill" => "killed",
        other => other,
    }
}

/// The relation type that a Wikidata property means, and whether it leads the other way; `None` if none does.
/// `subject` says what the subject of the relation type is, given whether it is the property's value.
///
/// **Source:** the 96 properties of Re-DocRED by their descriptions on Wikidata; where two would fit, the narrower.
pub(super) fn of_document(
    name: &str,
    subject: impl Fn(bool) -> Option<GoldKind>,
) -> Option<(&str, bool)> {
    let place = |inverse: bool| match subject(inverse)? {
        GoldKind::Name(NameLabel::Loc) => Some("located_in"),
        GoldKind::Name(NameLabel::Org) => Some("based_in"),
        GoldKind::Name(NameLabel::Per | NameLabel::Misc) | GoldKind::Time | GoldKind::Number => {
            None
        }
    };
    Some(match name {
        // Country, administrative unit, continent; and an administrative unit's parts.
        "P17" | "P131" | "P30" => (place(false)?, false),
        "P150" => (place(true)?, true),
        "P276" => match subject(false)? {
            GoldKind::Name(NameLabel::Misc) => ("took_place_in", false),
            GoldKind::Name(NameLabel::Per | NameLabel::Org | NameLabel::Loc)
            | GoldKind::Time
            | GoldKind::Number => (place(false)?, false),
        },
        "P159" => ("based_in", false),
        "P36" => ("capital_of", true),
        "P1376" => ("capital_of", false),
        "P19" => ("born_in", false),
        "P20" => ("died_in", false),
        "P569" => ("born_on", false),
        "P570" => ("died_on", false),
        "P551" => ("lives_in", false),
        "P27" => ("citizen_of", false),
        "P108" => ("works_for", false),
        "P69" => ("educated_at", false),
        "P26" => ("married_to", false),
        "P40" => ("parent_of", false),
        "P22" | "P25" => ("parent_of", true),
        "P3373" => ("sibling_of", false),
        // Head of government, head of state, chairperson, chief executive.
        "P6" | "P35" | "P488" | "P169" => ("leads", true),
        // Party, team, membership.
        "P102" | "P54" | "P463" => ("member_of", false),
        "P1365" => ("succeeded", false),
        "P1366" => ("succeeded", true),
        "P166" => ("received", false),
        "P1344" | "P607" => ("participated_in", false),
        "P710" => ("participated_in", true),
        "P112" => ("founded", true),
        "P571" => ("founded_on", false),
        "P127" => ("owns", true),
        "P1830" => ("owns", false),
        "P361" | "P749" => ("part_of", false),
        "P527" | "P355" => ("part_of", true),
        "P47" => ("borders", false),
        "P585" => ("took_place_on", false),
        // Author, screenwriter, composer, lyricist.
        "P50" | "P58" | "P86" | "P676" => ("author_of", true),
        // Director, producer.
        "P57" | "P162" => ("directed", true),
        // Performer, cast member.
        "P175" | "P161" => ("performed_in", true),
        // Developer, manufacturer, creator.
        "P178" | "P176" | "P170" => ("created", true),
        "P577" => ("published_on", false),
        "P1412" => ("speaks", false),
        other if other.starts_with('P') && other[1..].bytes().all(|b| b.is_ascii_digit()) => {
            return None;
        }
        other => (other, false),
    })
}
