//! Explores a model, and says what is broken, with a way there.
//!
//! What must always hold is the model checker's business. Progress is not: its `eventually` can miss a counterexample
//! where ways meet again or go in circles, and it knows no fairness. So the graph is walked here once more, backwards:
//! from every state that can be reached with all the faults, a state in which everything is final must be reachable
//! without any. In a finite graph that leaves no dead end and no circle without a way out, however deep the trouble.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write,
    mem::{Discriminant, discriminant},
    rc::Rc,
    time::Instant,
};

use graphmill::flow::ExecutionStatus;
use stateright::{Checker, HasDiscoveries, Model};

use super::{setup::Setup, state::State, step::Action};

/// The property that [`progress`] looks at, named as the checker's are.
pub(crate) const PROGRESS: &str = "everything ends";

/// A broken property, and a way there.
struct Broken {
    property: &'static str,
    steps: Vec<Action>,
}

/// What happens in a model.
pub(crate) struct Walk {
    pub(crate) states: usize,
    /// The kinds of steps.
    pub(crate) steps: HashSet<Discriminant<Action>>,
    /// How executions end.
    pub(crate) ends: HashSet<ExecutionStatus>,
    /// Somebody's settle came too late and changed no row.
    pub(crate) refused: bool,
}

/// Explores all of the model and fails with the way to the first thing that is broken.
pub(crate) fn holds(what: &str, setup: Setup) -> Walk {
    let begun = Instant::now();
    let until = HasDiscoveries::AnyFailures;
    let checked = setup.checker().finish_when(until).spawn_bfs().join();
    if let Some(broken) = discovery(&checked, None) {
        panic!("{what}: {}", broken.tell(&setup));
    }
    let (states, depth) = (checked.unique_state_count(), checked.max_depth());
    drop(checked);
    let walk = match progress(&setup) {
        Ok(walk) => walk,
        Err(stuck) => panic!("{what}: {}", stuck.tell(&setup)),
    };
    // The checker tells states apart by a hash, the walk by what they are.
    assert_eq!(walk.states, states, "{what}");
    println!(
        "{what}: holds in {states} states, at most {depth} steps away, {:.1?}",
        begun.elapsed()
    );
    walk
}

/// Fails unless `property` is broken in the model; tells how.
pub(crate) fn breaks(what: &str, property: &'static str, setup: Setup) {
    let begun = Instant::now();
    let broken = if property == PROGRESS {
        progress(&setup).err()
    } else {
        assert!(
            setup
                .properties()
                .iter()
                .any(|known| known.name == property),
            "{property}?"
        );
        let until = HasDiscoveries::AllOf([property].into());
        discovery(
            &setup.checker().finish_when(until).spawn_bfs().join(),
            Some(property),
        )
    };
    let Some(broken) = broken else {
        panic!("{what}: no counterexample to \"{property}\"");
    };
    println!(
        "{what}: found in {:.1?}: {}",
        begun.elapsed(),
        broken.tell(&setup)
    );
}

fn discovery(checked: &impl Checker<Setup>, property: Option<&str>) -> Option<Broken> {
    checked
        .discoveries()
        .into_iter()
        .filter(|(found, _)| property.is_none_or(|property| property == *found))
        .map(|(property, path)| Broken {
            property,
            steps: path.into_actions(),
        })
        .min_by_key(|broken| broken.steps.len())
}

impl Broken {
    /// The way, step by step, as far as the property needs it: the checker may come upon a later state first.
    fn tell(&self, setup: &Setup) -> String {
        let mut told = format!("not so: {}", self.property);
        let property = setup
            .properties()
            .into_iter()
            .find(|known| known.name == self.property);
        let mut state = State::new(setup);
        for (number, &step) in self.steps.iter().enumerate() {
            let _ = write!(told, "\n    {:2} {}", number + 1, step.tell(&state));
            state = setup.next_state(&state, step).unwrap();
            if property
                .as_ref()
                .is_some_and(|so| !(so.condition)(setup, &state))
            {
                break;
            }
        }
        told
    }
}

/// A state as the walk found it first.
struct Found {
    state: Rc<State>,
    /// From where, and by what.
    from: Option<(usize, Action)>,
}

/// What happens in the model, if everything can end without another fault from each of its states; else the way to
/// the nearest one that is stuck.
fn progress(setup: &Setup) -> Result<Walk, Broken> {
    let mut known: HashMap<Rc<State>, usize> = HashMap::new();
    let mut found: Vec<Found> = Vec::new();
    // By state: those from where it is reached without a fault.
    let mut backwards: Vec<Vec<usize>> = Vec::new();
    for state in setup.init_states() {
        let state = Rc::new(state);
        known.insert(Rc::clone(&state), found.len());
        found.push(Found { state, from: None });
        backwards.push(Vec::new());
    }
    let mut walk = Walk {
        states: 0,
        steps: HashSet::new(),
        ends: HashSet::new(),
        refused: false,
    };
    let mut actions = Vec::new();
    let mut at = 0;
    while at < found.len() {
        let state = Rc::clone(&found[at].state);
        setup.actions(&state, &mut actions);
        for action in actions.drain(..) {
            let Some(next) = setup.next_state(&state, action) else {
                continue;
            };
            walk.steps.insert(discriminant(&action));
            walk.refused |= matches!(action, Action::Settle(_)) && next.rows == state.rows;
            let to = *known.entry(Rc::new(next)).or_insert_with_key(|next| {
                found.push(Found {
                    state: Rc::clone(next),
                    from: Some((at, action)),
                });
                backwards.push(Vec::new());
                found.len() - 1
            });
            if !action.is_fault() {
                backwards[to].push(at);
            }
        }
        let ended = state.rows.iter().filter(|row| row.status.is_final());
        walk.ends.extend(ended.map(|row| row.status));
        at += 1;
    }
    walk.states = found.len();
    let mut ends = vec![false; found.len()];
    let mut ahead: Vec<usize> = (0..found.len())
        .filter(|&at| found[at].state.all_final())
        .collect();
    while let Some(at) = ahead.pop() {
        if !ends[at] {
            ends[at] = true;
            ahead.extend(&backwards[at]);
        }
    }
    // In the order of the walk, so that the first one is the nearest.
    match ends.iter().position(|ends| !ends) {
        None => Ok(walk),
        Some(stuck) => Err(Broken {
            property: PROGRESS,
            steps: way_to(&found, stuck),
        }),
    }
}

fn way_to(found: &[Found], end: usize) -> Vec<Action> {
    let mut steps: Vec<Action> = std::iter::successors(found[end].from, |&(at, _)| found[at].from)
        .map(|(_, by)| by)
        .collect();
    steps.reverse();
    steps
}
