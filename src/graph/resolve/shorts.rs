//! Short names: a surname, an acronym, a part of a name. They are whoever their document says they are; where it says
//! nothing, the only thing that fits; and where several fit, the one whose company the document keeps, if that is clear.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    Reason,
    company::{Circle, Companies},
    form::is_small,
    intake::{Intake, Node, number},
    kind::Kind,
    known,
    things::{Evidence, Things},
    within::Within,
};

/// Things that a short name may be and that are compared; with more, nobody is meant clearly.
const MOST: usize = 8;
/// Documents of a thing whose company is looked at.
const COMPANY: usize = 60;
/// How much more company the best one must keep than the next, and how much at least, in nats.
/// **Source:** the names in news and encyclopedia texts that were marked by hand while this was built.
const TIMES: f32 = 2.0;
const LEAST: f32 = 8.0;
/// How much at least, if nobody else of a rare name is known.
const LEAST_RARE: f32 = 3.0;

/// What became of a short node's unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fate {
    /// It is one of its node's thing.
    Node,
    /// Its document shows that it is one of this node's thing.
    Of(u32, f32),
    /// It stays alone, and may be one of this node's thing.
    Alone(Option<(u32, f32)>),
}

/// What the short names' documents were found to say.
#[derive(Debug)]
pub(super) struct Shorts<'a, Id> {
    intake: &'a Intake<Id>,
    within: &'a Within,
    /// Units by the node of their thing, in order.
    units: &'a [Vec<u32>],
    pub(super) fates: Vec<Fate>,
    pub(super) rest: Vec<Evidence>,
}

/// The nodes that a short node may stand for.
struct Candidates<'a> {
    proved: HashMap<u32, Vec<(u32, u32)>>,
    surname: HashMap<&'a str, Vec<u32>>,
    initials: HashMap<String, Vec<u32>>,
    town: HashMap<String, Vec<u32>>,
}

impl<'a, Id> Shorts<'a, Id> {
    pub(super) fn settle(
        intake: &'a Intake<Id>,
        within: &'a Within,
        units: &'a [Vec<u32>],
        given: &HashSet<u32>,
        things: &mut Things<'_>,
    ) -> Self {
        let mut shorts = Self {
            intake,
            within,
            units,
            fates: vec![Fate::Node; within.units.len()],
            rest: Vec::new(),
        };
        let candidates = shorts.candidates();
        let mut order: Vec<u32> = (0..number(intake.nodes.len()))
            .filter(|&node| !units[node as usize].is_empty())
            .filter(|&node| shorts.node(node).is_name() && !given.contains(&node))
            .collect();
        // A longer short form is settled before a shorter one asks who there is.
        order.sort_by_key(|&node| std::cmp::Reverse(shorts.node(node).form.count()));
        let companies = Companies::of_all(intake, within);
        for node in order {
            shorts.one(node, &candidates, &companies, things);
        }
        shorts
    }

    fn node(&self, node: u32) -> &'a Node {
        &self.intake.nodes[node as usize]
    }

    fn candidates(&self) -> Candidates<'a> {
        let mut found = Candidates {
            proved: HashMap::new(),
            surname: HashMap::new(),
            initials: HashMap::new(),
            town: HashMap::new(),
        };
        for (&(short, full), &count) in &self.within.proofs {
            found.proved.entry(short).or_default().push((full, count));
        }
        for list in found.proved.values_mut() {
            list.sort_unstable();
        }
        for node in 0..number(self.intake.nodes.len()) {
            let Node { form, kind, .. } = self.node(node);
            if self.units[node as usize].is_empty() || !self.node(node).is_name() || form.is_bare()
            {
                continue;
            }
            if self.node(node).is_person() {
                found.surname.entry(form.last()).or_default().push(node);
            } else if matches!(
                kind,
                Kind::Organization | Kind::Soft | Kind::Untyped | Kind::Event
            ) {
                let letters = |small: bool| -> String {
                    let words = form.words().filter(|word| small || !is_small(word));
                    words.filter_map(|word| word.chars().next()).collect()
                };
                let all = [letters(true), letters(false)];
                let distinct = if all[0] == all[1] { 1 } else { 2 };
                for letters in all.into_iter().take(distinct) {
                    found.initials.entry(letters).or_default().push(node);
                }
            }
            if form.head > 0 {
                let head: Vec<&str> = form.words().take(usize::from(form.head)).collect();
                found.town.entry(head.join(" ")).or_default().push(node);
            }
        }
        found
    }

    /// The things that fit a short node, with the number of documents that prove it.
    fn fitting(
        &self,
        node: u32,
        candidates: &Candidates<'_>,
        things: &Things<'_>,
    ) -> Vec<(u32, u32, Reason)> {
        let Node { form, kind, .. } = self.node(node);
        let mut fits: BTreeMap<u32, (u32, Reason)> = BTreeMap::new();
        let own = things.of(node);
        let mut add = |full: u32, count: u32, reason: Reason| {
            let thing = things.of(full);
            let apart = things.told_apart(node, full);
            if thing != own && !apart && !self.node(full).kind.conflicts(*kind) {
                let fit = fits.entry(thing).or_insert((0, reason));
                fit.0 += count;
            }
        };
        for &(full, count) in candidates.proved.get(&node).into_iter().flatten() {
            if !self.units[full as usize].is_empty() {
                add(full, count, Reason::Alias);
            }
        }
        if form.is_bare() {
            if *kind == Kind::Person || self.within_persons(node, candidates) {
                for &full in candidates.surname.get(form.last()).into_iter().flatten() {
                    if !form.woman || known::is_female(self.node(full).form.first()) {
                        add(full, 0, Reason::Part);
                    }
                }
            }
            if form.acronym && !form.known && *kind != Kind::Person && *kind != Kind::Place {
                for &full in candidates.initials.get(&*form.key).into_iter().flatten() {
                    if self.node(full).kind == *kind && form.key.len() > 2 {
                        add(full, 0, Reason::Acronym);
                    }
                }
            }
        }
        if form.head == 0 && (*kind == Kind::Place || kind.is_soft()) {
            for &full in candidates.town.get(&*form.key).into_iter().flatten() {
                add(full, 0, Reason::Part);
            }
        }
        fits.into_iter()
            .map(|(thing, (count, reason))| (thing, count, reason))
            .collect()
    }

    /// Whether a bare name without a class is somebody's surname: a document has proved it.
    fn within_persons(&self, node: u32, candidates: &Candidates<'_>) -> bool {
        self.node(node).kind.is_soft()
            && candidates
                .proved
                .get(&node)
                .is_some_and(|proved| proved.iter().any(|&(full, _)| self.node(full).is_person()))
    }

    fn one(
        &mut self,
        node: u32,
        candidates: &Candidates<'_>,
        companies: &Companies,
        things: &mut Things<'_>,
    ) {
        let fits = self.fitting(node, candidates, things);
        let Node { form, kind, .. } = self.node(node);
        let anybody = form.is_bare()
            && match kind {
                Kind::Person => known::is_common(&form.key),
                Kind::Untyped => known::is_only_given(&form.key),
                Kind::Organization
                | Kind::Place
                | Kind::Group
                | Kind::Language
                | Kind::Event
                | Kind::Work
                | Kind::Product
                | Kind::Award
                | Kind::Amount
                | Kind::Soft => false,
            };
        if let [(thing, proofs, reason)] = fits[..] {
            let merges = match reason {
                // A surname that is not common, of somebody who is spoken of more than once.
                Reason::Alias | Reason::Part if form.is_bare() && self.node(thing).is_person() => {
                    !anybody && form.key.len() > 3 && self.weight(thing, things) > 1
                }
                // An acronym that a document explains.
                Reason::Alias if form.acronym => true,
                Reason::Alias => proofs > 1 && !is_generic(form.last()),
                Reason::Part => form.head == 0 && self.node(thing).form.head > 0,
                Reason::Acronym
                | Reason::Decided
                | Reason::SameValue
                | Reason::SameName
                | Reason::Variant
                | Reason::Known
                | Reason::Initials
                | Reason::Spelling => false,
            };
            if merges {
                let evidence = Evidence {
                    left: node,
                    right: thing,
                    reason,
                    score: 0.97,
                    merges,
                };
                self.rest.extend(things.join_all(vec![evidence]));
                return;
            }
        }
        if fits.is_empty() {
            if anybody {
                self.scatter(node);
            }
            return;
        }
        let surname = form.is_bare() && fits.iter().any(|fit| self.node(fit.0).is_person());
        let proved = fits.iter().all(|fit| fit.1 > 0);
        // Whom users tell apart from somebody is joined under constraints or not at all.
        let free = !things.quarrels(node);
        if free && (surname || (form.acronym && proved && fits.len() > 1)) {
            let alone = anybody || fits.len() > 1;
            let least = if alone { LEAST } else { LEAST_RARE };
            self.by_company(node, &fits, (alone, least), companies, things);
            return;
        }
        let reasons = fits.into_iter().take(3);
        self.rest.extend(reasons.map(|(right, _, reason)| Evidence {
            left: node,
            right,
            reason,
            score: 0.6,
            merges: false,
        }));
    }

    /// In how many documents a thing is.
    fn weight(&self, thing: u32, things: &Things<'_>) -> usize {
        let nodes = things.members(thing).iter();
        nodes.map(|&node| self.units[node as usize].len()).sum()
    }

    /// Each document's own: a first name says nothing across documents.
    fn scatter(&mut self, node: u32) {
        for &unit in &self.units[node as usize] {
            self.fates[unit as usize] = Fate::Alone(None);
        }
    }

    /// Each document decides by the company it keeps. Where that says too little, the name stays with its namesakes, or
    /// alone if it may be anybody's.
    fn by_company(
        &mut self,
        node: u32,
        fits: &[(u32, u32, Reason)],
        (alone, least): (bool, f32),
        companies: &Companies,
        things: &Things<'_>,
    ) {
        let mut weighed: Vec<(u32, usize)> = fits
            .iter()
            .map(|&(thing, _, _)| (thing, self.weight(thing, things)))
            .collect();
        weighed.sort_by_key(|&(thing, weight)| (std::cmp::Reverse(weight), thing));
        let most = weighed[0].0;
        weighed.truncate(MOST);
        let circles: Vec<Circle> = weighed
            .iter()
            .map(|&(thing, _)| self.circle(thing, node, companies, things))
            .collect();
        let reason = fits.iter().map(|fit| fit.2).max().unwrap_or(Reason::Part);
        let common = known::is_common(&self.node(node).form.key);
        let given = known::is_given(&self.node(node).form.key);
        let mut asked: Option<(f32, u32)> = None;
        for &unit in &self.units[node as usize] {
            let document = self.within.units[unit as usize].document;
            // A document that has one of them as well tells the short name apart from it.
            let apart = circles
                .iter()
                .any(|circle| circle.documents.contains(&document));
            let company = companies.of(document);
            let mut scores: Vec<(f32, u32)> = circles
                .iter()
                .map(|circle| {
                    let shared = company.iter().filter(|one| circle.company.contains(one));
                    (
                        shared.map(|&one| companies.weight(one)).sum::<f32>(),
                        circle.thing,
                    )
                })
                .collect();
            scores.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            let next = scores.get(1).map_or(0.0, |next| next.0);
            let (best, thing) = scores[0];
            // A common name needs somebody who is spoken of more than once as well.
            let spoken = !common
                || weighed
                    .iter()
                    .any(|&(one, weight)| one == thing && weight > 1);
            let clear = best >= least && best >= next * TIMES && !apart && spoken && !given;
            let guess = if best > next {
                (0.6, thing)
            } else {
                (0.5, most)
            };
            self.fates[unit as usize] = if clear {
                Fate::Of(thing, 0.97)
            } else if alone {
                Fate::Alone(Some((guess.1, guess.0)))
            } else {
                let better = |other: (f32, u32)| {
                    guess.0 > other.0 || (guess.0 >= other.0 && guess.1 < other.1)
                };
                if asked.is_none_or(better) {
                    asked = Some(guess);
                }
                Fate::Node
            };
        }
        if let Some((score, thing)) = asked {
            self.rest.push(Evidence {
                left: node,
                right: thing,
                reason,
                score,
                merges: false,
            });
        }
    }

    /// Who appears in the documents of a thing, besides the short name and itself.
    fn circle(&self, thing: u32, short: u32, companies: &Companies, things: &Things<'_>) -> Circle {
        let members = things.members(thing);
        let nodes = members.iter().flat_map(|&node| &self.units[node as usize]);
        let documents: HashSet<u32> = nodes
            .map(|&unit| self.within.units[unit as usize].document)
            .collect();
        // The ones with the first names, so that it doesn't matter how documents are numbered.
        let mut lists: Vec<&[u32]> = documents.iter().map(|&one| companies.of(one)).collect();
        if lists.len() > COMPANY {
            lists.sort_unstable();
            lists.truncate(COMPANY);
        }
        let mut company: HashSet<u32> = lists.into_iter().flatten().copied().collect();
        company.remove(&short);
        for node in members {
            company.remove(node);
        }
        Circle {
            thing,
            documents,
            company,
        }
    }
}

/// Words that many institutions are called by alone.
fn is_generic(word: &str) -> bool {
    " parliament congress senate government council court party army navy ministry university college school board house \
     committee commission police assembly cabinet bank department league association union club company group office \
     agency state states team church museum hospital society institute center authority federation guard force forces \
     service administration corps band "
        .split_ascii_whitespace()
        .any(|other| other == word)
}
