//! A name as the resolution compares it: folded, in one word order, without what says nothing of who is meant.
//!
//! Two spellings with one form are one name; how close two forms are is asked elsewhere.

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

use super::{kind::Kind, known};
use crate::graph::name_key;

/// What stands before a person's name and is no part of it.
const TITLES: &str = " mr mrs ms miss mx dr doctor prof professor sir dame lord lady president vice prime minister \
    premier chancellor king queen prince princess emperor empress tsar sultan sheikh shaikh count countess duke duchess \
    baron baroness earl pope cardinal archbishop bishop rev reverend father saint st rabbi ayatollah imam mullah general gen \
    brigadier colonel col major maj captain capt lieutenant lt sergeant sgt corporal cpl private pvt commander cmdr \
    admiral adm senator sen congressman congresswoman representative rep governor gov mayor ambassador judge justice \
    secretary attorney hon maestro herr frau monsieur mme madame mlle don dona senor senora signor coach ";
/// Those of them that begin nothing but a person's name.
const SURE_TITLES: &str =
    " mr mrs ms dr prof president sen senator rep gov rev congressman congresswoman mme monsieur ";
/// A woman's.
const FEMALE: &str = " mrs ms miss dame lady queen princess empress countess duchess baroness mme madame mlle frau \
    congresswoman senora dona ";
/// What stands after a company's name and is no part of it.
const LEGAL: &str = " inc incorporated corp corporation co company cos companies ltd limited llc llp lp plc gmbh ag kg \
    kgaa sa sas sarl srl spa nv bv ab oy oyj asa as aps se pty pte bhd kk ";
/// What stands after a person's name and says nothing.
const AFTER: &str = " phd md esq mba obe mbe cbe kbe qc mp ";

/// Words that are written in two ways.
const WORDS: [(&str, &str); 44] = [
    ("dept", "department"),
    ("univ", "university"),
    ("intl", "international"),
    ("int'l", "international"),
    ("natl", "national"),
    ("nat'l", "national"),
    ("assn", "association"),
    ("assoc", "association"),
    ("govt", "government"),
    ("gov't", "government"),
    ("inst", "institute"),
    ("bros", "brothers"),
    ("comm", "commission"),
    ("cttee", "committee"),
    ("mfg", "manufacturing"),
    ("mt", "mount"),
    ("mtn", "mountain"),
    ("ft", "fort"),
    ("centre", "center"),
    ("theatre", "theater"),
    ("defence", "defense"),
    ("programme", "program"),
    ("organisation", "organization"),
    ("cooperation", "cooperation"),
    ("harbour", "harbor"),
    ("grey", "gray"),
    ("honour", "honor"),
    ("co-operation", "cooperation"),
    ("catalogue", "catalog"),
    ("aluminium", "aluminum"),
    ("jewellery", "jewelry"),
    ("tyre", "tire"),
    ("1st", "first"),
    ("2nd", "second"),
    ("3rd", "third"),
    ("4th", "fourth"),
    ("5th", "fifth"),
    ("6th", "sixth"),
    ("7th", "seventh"),
    ("8th", "eighth"),
    ("9th", "ninth"),
    ("10th", "tenth"),
    ("broadcasting", "broadcasting"),
    ("utd", "united"),
];

fn has(list: &str, word: &str) -> bool {
    list.split_ascii_whitespace().any(|other| other == word)
}

/// What a form says of somebody's place among namesakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) enum Generation {
    #[default]
    Unsaid,
    Senior,
    Junior,
    Second,
    Third,
    Fourth,
}

impl Generation {
    fn of(word: &str) -> Self {
        match word {
            "sr" | "senior" | "i" => Self::Senior,
            "jr" | "junior" | "jnr" => Self::Junior,
            "ii" => Self::Second,
            "iii" => Self::Third,
            "iv" => Self::Fourth,
            _ => Self::Unsaid,
        }
    }
}

/// A name's form.
#[expect(
    clippy::struct_excessive_bools,
    reason = "four things that a name may tell, each by itself"
)]
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Form {
    /// Its words, joined by blanks; never empty.
    pub(super) key: Box<str>,
    pub(super) generation: Generation,
    /// A woman's title stood before a bare surname.
    pub(super) woman: bool,
    /// It is surely a person's, by its class or its first name.
    pub(super) person: bool,
    /// It came out of a table of well-known names.
    pub(super) known: bool,
    /// How many of its words are the place itself, before the region: 1 in "Portland, Oregon". 0 without a region.
    pub(super) head: u8,
    /// It is written like an acronym.
    pub(super) acronym: bool,
}

impl Form {
    pub(super) fn of(name: &str, kind: Kind) -> Self {
        let name = name.trim();
        let person = kind == Kind::Person;
        let open = kind.is_soft();
        let turned = (person || open).then(|| turned(name, person)).flatten();
        let name = turned.as_deref().unwrap_or(name);
        if let Some(form) = placed(name, kind) {
            return form;
        }
        let mut words = folded(name, person);
        let mut form = Self {
            key: "".into(),
            generation: Generation::Unsaid,
            woman: false,
            person,
            known: false,
            head: 0,
            acronym: is_acronym(name),
        };
        if person || open {
            let titles = if person { TITLES } else { SURE_TITLES };
            let count = words.iter().take_while(|word| has(titles, word)).count();
            let count = count.min(words.len().saturating_sub(1));
            let woman = words[..count].iter().any(|word| has(FEMALE, word));
            words.drain(..count);
            form.person |= count > 0;
            form.woman = woman && words.len() == 1;
            while words.len() > 2 && words.last().is_some_and(|last| has(AFTER, last)) {
                words.pop();
            }
            let likely =
                words.len() <= 5 && words.first().is_some_and(|word| known::is_given(word));
            let likely = likely && words.len() >= 2;
            let last = words.last().map_or("", String::as_str);
            let generation = Generation::of(last);
            // A pope has a number and a single name.
            if generation != Generation::Unsaid && words.len() > 2 && (person || likely) {
                form.generation = generation;
                words.pop();
            }
            form.person |= likely && known(&words.join(" "), name, kind).is_none();
        }
        if kind == Kind::Organization || kind == Kind::Product || open {
            while words.len() > 1 && words.last().is_some_and(|last| has(LEGAL, last)) {
                words.pop();
                form.person = person;
            }
        }
        let key = words.join(" ");
        if let Some(canonical) = known(&key, name, kind) {
            form.known = true;
            form.key = canonical.into();
        } else {
            form.key = key.into();
        }
        form
    }

    /// A value's normal form.
    pub(super) fn exactly(value: &str) -> Self {
        Self {
            key: value.into(),
            generation: Generation::Unsaid,
            woman: false,
            person: false,
            known: false,
            head: 0,
            acronym: false,
        }
    }

    pub(super) fn words(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.key.split(' ')
    }

    pub(super) fn count(&self) -> usize {
        self.words().count()
    }

    pub(super) fn first(&self) -> &str {
        self.words().next().unwrap_or_default()
    }

    pub(super) fn last(&self) -> &str {
        self.words().next_back().unwrap_or_default()
    }

    /// Whether it is a part or an abbreviation of a name, as far as it shows.
    pub(super) fn is_short(&self) -> bool {
        (self.person && self.is_bare()) || self.acronym
    }

    /// Whether it is one word, but for small ones before it: a surname alone, or a stage name.
    pub(super) fn is_bare(&self) -> bool {
        let mut words = self.words();
        words.next_back();
        words.all(is_small)
    }
}

/// Words between the words of a name.
pub(super) fn is_small(word: &str) -> bool {
    has(
        " of for in on at to a an de la le les des du del da do dos di von van der den ter ten el al bin ibn ben abu und et y e ",
        word,
    )
}

/// The words of a name, in their folded spelling; at least one.
pub(super) fn folded(name: &str, person: bool) -> Vec<String> {
    let key = name_key(name);
    let plain: String = if key.is_ascii() {
        key
    } else {
        let mut plain = String::with_capacity(key.len());
        for c in key.nfkd().filter(|&c| !is_combining_mark(c)) {
            match c {
                'ł' => plain.push('l'),
                'ø' => plain.push('o'),
                'đ' | 'ð' => plain.push('d'),
                'ı' => plain.push('i'),
                'ß' => plain.push_str("ss"),
                'æ' => plain.push_str("ae"),
                'œ' => plain.push_str("oe"),
                'þ' => plain.push_str("th"),
                other => plain.push(other),
            }
        }
        plain
    };
    let mut words: Vec<String> = Vec::new();
    for word in plain.split(|c: char| {
        c.is_whitespace()
            || matches!(
                c,
                '-' | '‐' | '‑' | '–' | '—' | '/' | '&' | ',' | '_' | '(' | ')'
            )
    }) {
        if person && word.contains('.') {
            words.extend(word.split('.').map(letters));
        } else {
            let same = WORDS.iter().find(|(from, _)| *from == word);
            words.push(same.map_or_else(|| letters(word), |(_, to)| (*to).to_owned()));
        }
    }
    words.retain(|word| !word.is_empty());
    if person && words.len() > 1 {
        apart(name, &mut words);
    }
    if words.len() > 1 {
        let kept: Vec<String> = words
            .iter()
            .filter(|word| !matches!(word.as_str(), "the" | "and"))
            .cloned()
            .collect();
        if !kept.is_empty() {
            words = kept;
        }
    }
    if words.is_empty() {
        words.push(plain);
    }
    words
}

/// "JK Rowling" is "J. K. Rowling".
fn apart(name: &str, words: &mut Vec<String>) {
    let first = name.split_whitespace().next().unwrap_or_default();
    let is_initials = (2..=3).contains(&first.len())
        && first.bytes().all(|b| b.is_ascii_uppercase())
        && words[0].len() == first.len()
        && (first.len() == 2 || !first.bytes().any(|b| b"AEIOU".contains(&b)))
        && name.bytes().any(|b| b.is_ascii_lowercase())
        && !matches!(
            first,
            "MR" | "MS" | "DR" | "ST" | "AL" | "EL" | "ED" | "JO" | "MO"
        );
    if is_initials {
        let initials: Vec<String> = words[0].chars().map(String::from).collect();
        words.splice(0..1, initials);
    }
}

fn letters(word: &str) -> String {
    let word: String = word.chars().filter(|c| c.is_alphanumeric()).collect();
    // "isation" and "ization" are spellings of one word.
    match word.strip_suffix("isation") {
        Some(stem) if !stem.is_empty() => format!("{stem}ization"),
        _ => word,
    }
}

/// "Rowling, J. K." is "J. K. Rowling"; "Smith, Jr." stays. Without a class only where the rest is a first name.
fn turned(name: &str, person: bool) -> Option<String> {
    let (last, first) = name.split_once(',')?;
    let (last, first) = (last.trim(), first.trim());
    if last.is_empty() || first.is_empty() || first.contains(',') {
        return None;
    }
    let words = folded(first, true);
    let is_suffix = words.len() == 1
        && (Generation::of(&words[0]) != Generation::Unsaid || has(AFTER, &words[0]));
    let short = words.len() <= 3 && last.split_whitespace().count() <= 3;
    let is_first = words
        .iter()
        .all(|word| word.chars().count() == 1 || known::is_given(word));
    let fits = if person {
        !is_suffix
    } else {
        is_first && !is_suffix
    };
    (short && fits).then(|| format!("{first} {last}"))
}

/// "Portland, Ore." in the form of "Portland, Oregon".
fn placed(name: &str, kind: Kind) -> Option<Form> {
    if kind != Kind::Place && !kind.is_soft() {
        return None;
    }
    let (head, region) = name.rsplit_once(',')?;
    let whole = known(&folded(name, false).join(" "), name, kind);
    let region = known::region(&folded(region, false).join(" "))?;
    let head = folded(head, false);
    let key = match whole {
        Some(whole) => whole.to_owned(),
        None => format!("{} {region}", head.join(" ")),
    };
    Some(Form {
        key: key.into(),
        generation: Generation::Unsaid,
        woman: false,
        person: false,
        known: whole.is_some(),
        head: if whole.is_some() {
            0
        } else {
            u8::try_from(head.len()).unwrap_or(0)
        },
        acronym: false,
    })
}

/// The canonical form of a well-known name.
fn known(key: &str, written: &str, kind: Kind) -> Option<&'static str> {
    // A short word without a class has to look like an abbreviation.
    let open = kind.is_soft()
        && (key.len() > 4 || is_acronym(written) || written.ends_with('.') || !key.is_ascii());
    match kind {
        Kind::Place => known::place(key),
        Kind::Organization => known::organization(key),
        Kind::Event => known::event(key),
        Kind::Soft | Kind::Untyped if open => known::place(key)
            .or_else(|| known::organization(key))
            .or_else(|| known::event(key)),
        Kind::Soft
        | Kind::Untyped
        | Kind::Person
        | Kind::Group
        | Kind::Language
        | Kind::Work
        | Kind::Product
        | Kind::Award
        | Kind::Amount => None,
    }
}

/// Whether it is written like an acronym: few letters, capitals nearly all, in one word.
fn is_acronym(written: &str) -> bool {
    let (mut letters, mut capitals) = (0, 0);
    for c in written.chars() {
        if c.is_whitespace() {
            if !written.contains('.') {
                return false;
            }
        } else if c.is_alphanumeric() {
            letters += 1;
            capitals += usize::from(c.is_uppercase());
        }
    }
    (2..=8).contains(&letters) && capitals * 3 >= letters * 2
}
