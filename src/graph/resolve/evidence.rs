//! What speaks for two full names being one thing's, found by blocks: only names that share a key of some kind are
//! compared, and a block that many share is only looked at in part, so the time stays linear in the names.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::Hash,
};

use super::{
    Reason,
    compare::{compact, middles, middles_fit, one_letter},
    form::{Generation, is_small},
    intake::{Node, number},
    kind::Kind,
    known,
    sound::skeleton,
    things::Evidence,
};

/// Nodes of one block that are all compared with each other.
const BLOCK: usize = 12;
/// In a bigger block each is compared with as many neighbours, in the order of their keys.
const WINDOW: usize = 3;

/// Gathers evidence between nodes; `alive` says which have entities, `given` whose thing users have named.
pub(super) fn gather(nodes: &[Node], alive: &[bool], given: &HashSet<u32>) -> Vec<Evidence> {
    let all: Vec<u32> = (0..number(nodes.len()))
        .filter(|&node| alive[node as usize])
        // A surname that is given to somebody says nothing of the others who have it.
        .filter(|node| !(given.contains(node) && nodes[*node as usize].form.is_short()))
        .collect();
    let mut found = Gather {
        nodes,
        out: Vec::new(),
    };
    found.same_key(&all);
    let names: Vec<u32> = all
        .into_iter()
        .filter(|&node| nodes[node as usize].is_name())
        .collect();
    found.variants(&names);
    found.spellings(&names);
    found.people(&names);
    found.out
}

struct Gather<'a> {
    nodes: &'a [Node],
    out: Vec<Evidence>,
}

/// The nodes by a key, in their order; keys that one node has alone are left out.
fn blocks<K: Hash + Eq + Ord>(keys: impl Iterator<Item = (K, u32)>) -> Vec<Vec<u32>> {
    let mut blocks: HashMap<K, Vec<u32>> = HashMap::new();
    for (key, node) in keys {
        blocks.entry(key).or_default().push(node);
    }
    blocks.retain(|_, members| members.len() > 1);
    let mut blocks: Vec<(K, Vec<u32>)> = blocks.into_iter().collect();
    blocks.sort_unstable();
    blocks.into_iter().map(|(_, members)| members).collect()
}

/// Pairs of a block: all of a small one, neighbours of a big one.
fn pairs(block: &[u32]) -> impl Iterator<Item = (u32, u32)> {
    let reach = if block.len() <= BLOCK { BLOCK } else { WINDOW };
    block
        .iter()
        .enumerate()
        .flat_map(move |(place, &a)| block[place + 1..].iter().take(reach).map(move |&b| (a, b)))
}

impl<'a> Gather<'a> {
    fn node(&self, node: u32) -> &'a Node {
        &self.nodes[node as usize]
    }

    fn add(&mut self, left: u32, right: u32, reason: Reason, score: f32, merges: bool) {
        self.out.push(Evidence {
            left,
            right,
            reason,
            score,
            merges,
        });
    }

    /// One key: of one kind they are one; what has no kind joins the only kind that there is.
    fn same_key(&mut self, named: &[u32]) {
        let nodes = self.nodes;
        let keys = named.iter().map(|&node| {
            let Node { form, value, .. } = &nodes[node as usize];
            ((&*form.key, form.generation, form.woman, value), node)
        });
        for block in blocks(keys) {
            let mut kinds: BTreeMap<Kind, Vec<u32>> = BTreeMap::new();
            for node in block {
                kinds.entry(self.node(node).kind).or_default().push(node);
            }
            for members in kinds.values() {
                // Every pair: users may tell some of them apart.
                for (place, &a) in members.iter().enumerate() {
                    let reach = if place == 0 { members.len() } else { BLOCK };
                    for &b in members[place + 1..].iter().take(reach) {
                        let table = self.node(a).form.known || self.node(b).form.known;
                        let reason = if table && self.node(a).form != self.node(b).form {
                            Reason::Known
                        } else {
                            Reason::SameName
                        };
                        self.add(a, b, reason, 1.0, true);
                    }
                }
            }
            let firsts: Vec<(Kind, u32)> = kinds
                .iter()
                .map(|(&kind, members)| (kind, members[0]))
                .collect();
            let hard = firsts.iter().filter(|(kind, _)| !kind.is_soft()).count();
            for (place, &(kind, a)) in firsts.iter().enumerate() {
                for &(other, b) in &firsts[place + 1..] {
                    // Soft kinds come last.
                    let open = other.is_soft() && (hard <= 1 || kind.is_soft());
                    let score = if open { 0.98 } else { 0.5 };
                    self.add(a, b, Reason::SameName, score, open);
                }
            }
        }
    }

    /// One name in another writing: blanks, hyphens, word order.
    fn variants(&mut self, names: &[u32]) {
        let nodes = self.nodes;
        let long = |node: &&u32| nodes[**node as usize].form.key.len() >= 5;
        let joined = names.iter().filter(long).map(|&node| {
            let Node { form, kind, .. } = &nodes[node as usize];
            ((*kind, form.generation, compact(form)), node)
        });
        for block in blocks(joined) {
            self.all(&block, Reason::Variant, 0.99, true);
        }
        let turned = names.iter().filter_map(|&node| {
            let Node { form, kind, .. } = &nodes[node as usize];
            let mut words: Vec<&str> = form.words().filter(|word| !is_small(word)).collect();
            let fits = match kind {
                Kind::Organization => !is_taken(&words),
                Kind::Person => true,
                Kind::Soft | Kind::Untyped => form.person,
                Kind::Place
                | Kind::Group
                | Kind::Language
                | Kind::Event
                | Kind::Work
                | Kind::Product
                | Kind::Award
                | Kind::Amount => false,
            };
            words.sort_unstable();
            (fits && words.len() > 1).then(|| ((*kind, form.generation, words.join(" ")), node))
        });
        for block in blocks(turned) {
            self.all(&block, Reason::Variant, 0.98, true);
        }
    }

    fn all(&mut self, block: &[u32], reason: Reason, score: f32, merges: bool) {
        for (a, b) in pairs(block) {
            if self.node(a).form.key != self.node(b).form.key {
                self.add(a, b, reason, score, merges);
            }
        }
    }

    /// Spellings that differ by transliteration, or in one letter of one word.
    fn spellings(&mut self, names: &[u32]) {
        let nodes = self.nodes;
        let sounds = names.iter().filter_map(|&node| {
            let Node { form, kind, .. } = &nodes[node as usize];
            let sound: String = form.words().map(skeleton).collect();
            (sound.len() >= 6 && !has_digit(&sound))
                .then_some(((*kind, form.generation, sound), node))
        });
        for block in blocks(sounds) {
            for (a, b) in pairs(&block) {
                let (x, y) = (self.node(a), self.node(b));
                if x.form.key != y.form.key {
                    let full = !x.form.is_bare() && !y.form.is_bare();
                    let score = if full { 0.97 } else { 0.85 };
                    self.add(a, b, Reason::Spelling, score, full);
                }
            }
        }
        // A word left out, a bar in its place: what remains is shared.
        let bars = names.iter().flat_map(|&node| {
            let Node { form, kind, .. } = &nodes[node as usize];
            let words: Vec<&str> = form.words().collect();
            let few = (2..=8).contains(&words.len());
            let bars: Vec<_> = (0..if few { words.len() } else { 0 })
                .filter(|&bar| words[bar].len() >= 5)
                .map(|bar| {
                    let mut words = words.clone();
                    words[bar] = "|";
                    ((*kind, form.generation, words.join(" ")), node)
                })
                .collect();
            bars
        });
        for block in blocks(bars) {
            for (a, b) in pairs(&block) {
                self.one_word(a, b);
            }
        }
    }

    fn one_word(&mut self, a: u32, b: u32) {
        let (x, y) = (&self.node(a).form, &self.node(b).form);
        let mut differ = x.words().zip(y.words()).filter(|(x, y)| x != y);
        let (Some((left, right)), None) = (differ.next(), differ.next()) else {
            return;
        };
        if !one_letter(left, right) || (known::is_given(left) && known::is_given(right)) {
            return;
        }
        let length = left.len().min(right.len());
        let rest = x.key.len() - left.len();
        let sure = length >= 6 && rest >= 5 && self.node(a).kind != Kind::Place;
        let score = if sure { 0.97 } else { 0.85 };
        self.add(a, b, Reason::Spelling, score, sure);
    }

    /// Persons with one surname: initials, middle names, short first names.
    fn people(&mut self, names: &[u32]) {
        let nodes = self.nodes;
        let persons = names.iter().filter_map(|&node| {
            let node_of = &nodes[node as usize];
            let Node { form, kind, .. } = node_of;
            (node_of.is_person() && !form.is_bare()).then(|| ((*kind, form.last()), node))
        });
        for block in blocks(persons) {
            let mut firsts: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
            for &node in &block {
                firsts
                    .entry(self.node(node).form.first())
                    .or_default()
                    .push(node);
            }
            let mut initial: HashMap<char, Vec<&str>> = HashMap::new();
            for first in firsts.keys().filter(|first| first.chars().count() > 1) {
                initial
                    .entry(first.chars().next().unwrap_or(' '))
                    .or_default()
                    .push(first);
            }
            let full = firsts.keys().filter(|first| first.chars().count() > 1);
            let rare = full.count() == 1 && !known::is_common(self.node(block[0]).form.last());
            for (&first, members) in &firsts {
                self.middle(members);
                let others: Vec<&str> = if first.chars().count() == 1 {
                    let letter = first.chars().next().unwrap_or(' ');
                    initial.get(&letter).cloned().unwrap_or_default()
                } else {
                    let full = known::full_forms(first).filter(|&full| full != first);
                    full.filter(|full| firsts.contains_key(full)).collect()
                };
                let is_initial = first.chars().count() == 1;
                self.shorter(members, &others, &firsts, rare || !is_initial);
            }
        }
    }

    /// One first and last name: one has a middle name and one has none, or an initial of it.
    fn middle(&mut self, members: &[u32]) {
        if members.len() < 2 {
            return;
        }
        // Two people are among them if two middle names don't fit.
        let clash = |out: &Self, of: u32| {
            let fits: Vec<u32> = members
                .iter()
                .copied()
                .filter(|&other| middles_fit(&out.node(of).form, &out.node(other).form))
                .take(BLOCK)
                .collect();
            fits.iter().enumerate().any(|(place, &a)| {
                fits[place + 1..].iter().any(|&b| {
                    !middles_fit(&out.node(a).form, &out.node(b).form)
                        || generations(&out.node(a).form, &out.node(b).form)
                })
            })
        };
        let members = &members[..members.len().min(BLOCK * 4)];
        let clashes: Vec<bool> = members.iter().map(|&node| clash(self, node)).collect();
        for (place, &a) in members.iter().enumerate() {
            for (other, &b) in members.iter().enumerate().skip(place + 1).take(BLOCK) {
                let (x, y) = (&self.node(a).form, &self.node(b).form);
                if x.key == y.key && x.generation == y.generation {
                    continue;
                }
                if middles_fit(x, y) {
                    // An initial is left out often; a whole name that is left out may be another person's.
                    let whole = |form: &super::form::Form| middles(form).any(|name| name.len() > 1);
                    let left_out =
                        middles(x).count() != middles(y).count() && (whole(x) || whole(y));
                    let last = x.last();
                    let doubtful = left_out && known::is_common(last);
                    let sure = !(clashes[place] || clashes[other] || doubtful);
                    let score = if sure { 0.97 } else { 0.6 };
                    self.add(a, b, Reason::Initials, score, sure);
                }
            }
        }
    }

    /// `members` have a short form of one of the first names `others`: sure if one name alone fits.
    fn shorter(
        &mut self,
        members: &[u32],
        others: &[&str],
        firsts: &BTreeMap<&str, Vec<u32>>,
        rare: bool,
    ) {
        for &short in members.iter().take(BLOCK) {
            let fits: Vec<(&str, u32)> = others
                .iter()
                .take(BLOCK * 4)
                .flat_map(|&first| {
                    firsts[first]
                        .iter()
                        .take(BLOCK)
                        .map(move |&node| (first, node))
                })
                .filter(|&(_, node)| {
                    let (x, y) = (&self.node(short).form, &self.node(node).form);
                    middles_fit(x, y) && !generations(x, y)
                })
                .collect();
            let alone = fits.iter().all(|(first, _)| *first == fits[0].0);
            // A second initial that fits says more than a name that is alone by chance.
            for &(_, full) in fits.iter().take(if alone { BLOCK } else { 3 }) {
                let both = middles(&self.node(short).form)
                    .zip(middles(&self.node(full).form))
                    .count();
                let sure = alone && (rare || both > 0);
                let score = match (sure, alone) {
                    (true, _) => 0.98,
                    (false, true) => 0.7,
                    (false, false) => 0.5,
                };
                self.add(short, full, Reason::Initials, score, sure);
            }
        }
    }
}

/// Whether both say a generation, and not the same.
fn generations(a: &super::form::Form, b: &super::form::Form) -> bool {
    a.generation != b.generation
        && a.generation != Generation::Unsaid
        && b.generation != Generation::Unsaid
}

/// The University of Washington is not Washington University.
fn is_taken(words: &[&str]) -> bool {
    let school = |word: &&str| matches!(*word, "university" | "college" | "school");
    words.iter().any(school)
        && words.iter().any(|word| {
            known::region(word).is_some()
                || matches!(*word, "miami" | "york" | "paris" | "boston" | "washington")
        })
}

fn has_digit(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_digit())
}
