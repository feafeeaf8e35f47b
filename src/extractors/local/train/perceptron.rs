//! The averaged structured perceptron.
//!
//! Each wrong stretch moves the weights of its right and its wrong labels; the mean over all steps is the model.
//! Where a corpus does not say a label, the best that it allows counts as right. Deterministic from the seed.

use super::{
    super::tagger::{
        decode::{self, LABELS, Scores, Transitions},
        weights::{FEATURE_BITS, number},
    },
    corpus::Stretch,
};

/// How to train.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) seed: u64,
    pub(super) epochs: u32,
    /// Which share of the features a step leaves out, and of the words their spelling.
    pub(super) dropout: f32,
    pub(super) spelling_dropout: f32,
    /// How much a wrong label is favoured while training, so that right ones win by more than that.
    pub(super) margin: f32,
    /// How many models, each from a seed of its own, the mean is taken of.
    pub(super) models: u32,
    /// A feature that stands fewer times is not learned.
    pub(super) least_count: u32,
}

/// Weights by the features' numbers.
pub(super) struct Model {
    /// For each number the row, plus one; 0 is none.
    pub(super) index: Vec<u32>,
    pub(super) rows: Vec<Scores>,
    pub(super) transitions: Transitions,
}

/// Numbers that look random, from a seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub(super) const fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // The upper half is the random one.
        (self.0 >> 32) as u32
    }

    pub(super) fn below(&mut self, share: f32) -> bool {
        let [low, high, ..] = self.next().to_le_bytes();
        f32::from(u16::from_le_bytes([low, high])) / 65536.0 < share
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.next() as usize % (at + 1));
        }
    }
}

impl Model {
    pub(super) fn row(&self, feature: u32) -> u32 {
        self.index[number(feature) as usize]
    }
}

/// Trains on these stretches, each as often as its number says.
pub(super) fn train(examples: &[(&Stretch, u32)], settings: &Settings) -> Model {
    let mut counts = vec![0_u32; 1 << FEATURE_BITS];
    for (stretch, _) in examples {
        for &feature in &stretch.features {
            counts[number(feature) as usize] += 1;
        }
    }
    let mut rows = 1;
    for count in &mut counts {
        *count = if *count >= settings.least_count {
            rows += 1;
            rows - 1
        } else {
            0
        };
    }
    let mut model = Model {
        index: counts,
        rows: vec![[0.0; LABELS]; rows as usize],
        transitions: [[0.0; LABELS]; LABELS],
    };
    let indexed: Vec<Vec<u32>> = examples
        .iter()
        .map(|(stretch, _)| stretch.features.iter().map(|&f| model.row(f)).collect())
        .collect();
    let mut order: Vec<usize> = examples
        .iter()
        .enumerate()
        .flat_map(|(at, (_, times))| std::iter::repeat_n(at, *times as usize))
        .collect();
    let mut total = Averages::new(rows as usize);
    for number in 0..settings.models.max(1) {
        let mut random = Random::new(settings.seed.wrapping_add(u64::from(number) << 32));
        total.add(&pass(
            examples,
            &indexed,
            &mut order,
            settings,
            &mut random,
            rows as usize,
        ));
    }
    total.into_model(&mut model);
    model
}

/// What one run of steps has learned: weights, and transitions.
struct Averages {
    rows: Vec<Scores>,
    transitions: Transitions,
}

impl Averages {
    fn new(rows: usize) -> Self {
        Self {
            rows: vec![[0.0; LABELS]; rows],
            transitions: [[0.0; LABELS]; LABELS],
        }
    }

    fn add(&mut self, other: &Self) {
        for (mine, other) in self
            .rows
            .iter_mut()
            .chain(&mut self.transitions)
            .zip(other.rows.iter().chain(&other.transitions))
        {
            for (mine, other) in mine.iter_mut().zip(other) {
                *mine += other;
            }
        }
    }

    fn into_model(self, model: &mut Model) {
        model.rows = self.rows;
        model.transitions = self.transitions;
    }
}

fn pass(
    examples: &[(&Stretch, u32)],
    indexed: &[Vec<u32>],
    order: &mut [usize],
    settings: &Settings,
    random: &mut Random,
    rows: usize,
) -> Averages {
    let mut model = Averages::new(rows);
    let mut sums = vec![[0.0_f32; LABELS]; rows];
    let mut transition_sums = [[0.0_f32; LABELS]; LABELS];
    let mut step = 1.0_f32;
    let mut kept: Vec<u32> = Vec::new();
    let mut ends: Vec<usize> = Vec::new();
    let mut scores: Vec<Scores> = Vec::new();
    for _ in 0..settings.epochs {
        random.shuffle(order);
        for &example in &*order {
            let (stretch, _) = examples[example];
            kept.clear();
            ends.clear();
            scores.clear();
            for at in 0..stretch.gold.len() {
                let silent = random.below(settings.spelling_dropout);
                let mut own = [0.0; LABELS];
                for place in stretch.word(at) {
                    let row = indexed[example][place];
                    let template = u32::from(stretch.templates[place]);
                    if row == 0
                        || silent && super::super::tagger::feature::SPELLINGS.contains(&template)
                        || random.below(settings.dropout)
                    {
                        continue;
                    }
                    kept.push(row);
                    for (score, weight) in own.iter_mut().zip(&model.rows[row as usize]) {
                        *score += weight;
                    }
                }
                ends.push(kept.len());
                scores.push(own);
            }
            let unsure = stretch
                .allowed
                .iter()
                .any(|allowed| allowed.count_ones() > 1);
            let right = if unsure {
                decode::best(&scores, &model.transitions, |at| stretch.allowed[at])
            } else {
                stretch.gold.clone()
            };
            for (scores, right) in scores.iter_mut().zip(&right) {
                for (label, score) in scores.iter_mut().enumerate() {
                    if label != usize::from(*right) {
                        *score += settings.margin;
                    }
                }
            }
            let found = decode::best(&scores, &model.transitions, |_| u16::MAX);
            step += 1.0;
            if found == right {
                continue;
            }
            let mut start = 0;
            let (mut before_right, mut before_found) = (0, 0);
            for at in 0..=right.len() {
                let (good, bad) = (
                    usize::from(right.get(at).copied().unwrap_or(0)),
                    usize::from(found.get(at).copied().unwrap_or(0)),
                );
                if good != bad {
                    for &row in &kept[start..ends[at]] {
                        let (weights, sums) =
                            (&mut model.rows[row as usize], &mut sums[row as usize]);
                        weights[good] += 1.0;
                        sums[good] += step;
                        weights[bad] -= 1.0;
                        sums[bad] -= step;
                    }
                }
                if good != bad || before_right != before_found {
                    model.transitions[before_right][good] += 1.0;
                    transition_sums[before_right][good] += step;
                    model.transitions[before_found][bad] -= 1.0;
                    transition_sums[before_found][bad] -= step;
                }
                (before_right, before_found) = (good, bad);
                start = ends.get(at).copied().unwrap_or(start);
            }
        }
    }
    for (weights, sums) in model.rows.iter_mut().zip(&sums) {
        for (weight, sum) in weights.iter_mut().zip(sums) {
            *weight -= sum / step;
        }
    }
    for (weights, sums) in model.transitions.iter_mut().zip(&transition_sums) {
        for (weight, sum) in weights.iter_mut().zip(sums) {
            *weight -= sum / step;
        }
    }
    model
}
