//! A model of the protocol, explored to the last state: leases, settles, rings and sweeps under crashes, zombies, lost
//! and foreign jobs. Its decisions are `flow`'s own functions, and `decisions.rs` shows that the SQL decides the same.
//!
//! `cargo test --test it model -- --nocapture` says how many states there are and tells the counterexamples.

mod effect;
mod proof;
mod setup;
mod state;
mod step;

use graphmill::flow::{ExecutionStatus, FailurePolicy, Stage};

use proof::{PROGRESS, breaks, holds};
use setup::{
    Fault::{self, Cancel, Crash, Drain, EarlyCrash, Flush, Foreign, Freeze, LostRing, Trouble},
    Flaw::{self, *},
    Setup,
};

const LATE: &str = "a late write is refused";
const TWICE: &str = "a stage settles once";
const FINAL: &str = "what is final stays so";
const TURN: &str = "no stage before its turn";
const AGAIN: &str = "no unit after its checkpoint";
const REPEATED: &str = "a unit again only for a lost lease";

/// Kinds of steps in a model without a flaw: all but the pushes and redeliveries that only flaws have.
const STEPS: usize = 30;

#[test]
fn one_fault_of_any_kind_loses_and_repeats_nothing() {
    let small = Setup {
        budget: 1,
        ..Setup::SMALL
    };
    let walk = holds("one fault, two stages of two units", small);
    // A model in which nothing happens would hold too.
    assert_eq!(walk.steps.len(), STEPS);
    assert!(walk.refused, "no late settle was ever tried");
    let longer = Setup {
        first: Stage::Entities,
        units: 1,
        ..small
    };
    holds("one fault, three stages of one unit", longer);
}

#[test]
fn two_faults_of_any_kind_lose_and_repeat_nothing() {
    let setup = Setup {
        units: 1,
        ..Setup::SMALL
    };
    let walk = holds("two faults, two stages of one unit", setup);
    for status in ExecutionStatus::ALL {
        assert_eq!(walk.ends.contains(&status), status.is_final(), "{status}");
    }
}

#[test]
fn three_faults_in_one_stage_lose_and_repeat_nothing() {
    let setup = Setup {
        first: Stage::Assemble,
        units: 1,
        budget: 3,
        faults: &[Crash, Freeze, Flush],
        ..Setup::SMALL
    };
    holds("three faults, one stage of one unit", setup);
}

#[test]
fn two_documents_of_a_batch_end_whatever_its_policy() {
    for (policy, budget) in [
        (FailurePolicy::ContinueOnFailure, 1),
        (FailurePolicy::AbortAll, 2),
        (FailurePolicy::RetryFailed, 2),
    ] {
        let setup = Setup {
            executions: 2,
            first: Stage::Assemble,
            units: 1,
            faults: &[Crash, Trouble],
            policy,
            budget,
            ..Setup::SMALL
        };
        holds(&format!("faults: {budget}, two documents, {policy}"), setup);
    }
}

/// `cargo test --test it model -- --ignored --nocapture`: 2.9 million states, two to eight minutes on a busy
/// machine, 1.2 GB.
#[test]
#[ignore = "minutes and gigabytes"]
fn larger_models_hold_too() {
    let longer = Setup {
        first: Stage::Entities,
        ..Setup::SMALL
    };
    holds("two faults, three stages of two units", longer);
    let both = Setup {
        executions: 2,
        units: 1,
        budget: 1,
        ..Setup::SMALL
    };
    holds("one fault, two documents, two stages of one unit", both);
    let worse = Setup {
        units: 1,
        budget: 3,
        faults: &[Crash, Freeze, Flush, Drain],
        ..Setup::SMALL
    };
    holds("three faults, two stages of one unit", worse);
}

fn mistaken(flaws: &'static [Flaw], faults: &'static [Fault], budget: u8) -> Setup {
    Setup {
        budget,
        faults,
        flaws,
        ..Setup::SMALL
    }
}

#[test]
fn each_of_these_mistakes_breaks_a_promise() {
    let mistakes: [(&'static [Flaw], &'static [Fault], u8, &'static str); 15] = [
        (&[SettleWithoutEpoch], &[Freeze], 1, LATE),
        (&[SettleWithoutEpoch], &[Freeze], 1, TWICE),
        (&[SettleWithoutOwner], &[Freeze, Cancel], 2, FINAL),
        (&[LeaseKeepsEpoch], &[Freeze], 1, TWICE),
        (&[LeaseOverLive], &[Freeze], 1, REPEATED),
        // A settle leaves the epoch as it is: a job that was rung while the lease had run out outlives it.
        (&[LeaseWithoutStage], &[Freeze], 1, TWICE),
        (&[LeaseWithoutStage], &[Foreign], 1, TURN),
        (&[RecentWithoutEpoch], &[Crash], 1, AGAIN),
        (&[RecentWithoutEpoch], &[Drain], 1, AGAIN),
        (&[SweepWithoutPatience], &[Crash], 1, PROGRESS),
        (&[NoOrphanedStops], &[Cancel], 1, PROGRESS),
        (&[NoSweep], &[Crash], 1, PROGRESS),
        (&[NoSweep], &[Flush], 1, PROGRESS),
        (&[NoSweep], &[Drain], 1, PROGRESS),
        (&[NoSweep], &[LostRing], 1, PROGRESS),
    ];
    for (flaws, faults, budget, property) in mistakes {
        let setup = mistaken(flaws, faults, budget);
        breaks(&format!("{flaws:?} with {faults:?}"), property, setup);
    }
}

/// Pushed before the commit, the successor's job may be answered while the row still says the old stage: it is dropped,
/// and nothing rings when the commit comes. The sweeper makes up for it, 5 s later.
#[test]
fn a_push_before_the_commit_is_made_up_for_by_the_sweeper() {
    let mistake = mistaken(&[PushFirst], &Fault::ALL, 1);
    holds("push before commit", mistake);
    holds("no sweeper, no fault", mistaken(&[NoSweep], &[], 0));
    let lost = mistaken(&[PushFirst, NoSweep], &[], 0);
    breaks("push before commit, no sweeper, no fault", PROGRESS, lost);
    // Its epoch is the row's by then; the stage alone gives it away.
    holds(
        "a lease that ignores the stage, deaths alone",
        mistaken(&[LeaseWithoutStage], &[Crash], 1),
    );
    let early = mistaken(&[PushFirst, LeaseWithoutStage], &[Crash], 1);
    breaks(
        "push before commit, a lease that ignores the stage",
        TURN,
        early,
    );
}

/// An acknowledgement carries nothing here: a job that its worker took with it is rung again by the row. In a queue that
/// stands alone it carries everything, and even then the push after the commit is lost with the worker in between.
#[test]
fn an_acknowledgement_before_the_settle_is_made_up_for_by_the_sweeper() {
    let mistake = mistaken(&[AckFirst], &[Crash, Freeze, Flush, Drain, LostRing], 1);
    holds("acknowledge before settle", mistake);
    let alone: &[Flaw] = &[NoSweep, Redelivery, LeaseWithoutEpoch];
    let died = mistaken(alone, &[EarlyCrash], 2);
    holds("a queue alone, deaths before the settle", died);
    let early = mistaken(
        &[NoSweep, Redelivery, LeaseWithoutEpoch, AckFirst],
        &[EarlyCrash],
        1,
    );
    breaks("a queue alone, acknowledge before settle", PROGRESS, early);
    breaks(
        "a queue alone, any death",
        PROGRESS,
        mistaken(alone, &[Crash], 1),
    );
    let push_first = mistaken(&[NoSweep, Redelivery, LeaseWithoutEpoch, PushFirst], &[], 0);
    breaks("a queue alone, push before commit", PROGRESS, push_first);
}

/// After a flush the incarnation has everything rung for at once, without waiting for a ring to grow old; a sweeper that
/// forgets it waits, and loses nothing. One that has neither loses everything.
#[test]
fn a_flush_is_noticed_by_the_incarnation_or_else_by_patience() {
    let at_once = mistaken(&[SweepWithoutPatience], &[Flush], 2);
    holds("flushes, no patience", at_once);
    let later = mistaken(&[SweepWithoutIncarnation], &Fault::ALL, 1);
    holds("no incarnation", later);
    let never = mistaken(
        &[SweepWithoutPatience, SweepWithoutIncarnation],
        &[Flush],
        1,
    );
    breaks("a flush, no patience and no incarnation", PROGRESS, never);
}

/// The row's stage and its live lease say enough; the epoch in the job spares the attempts of stale copies.
#[test]
fn jobs_without_an_epoch_would_do() {
    let mistake = mistaken(&[LeaseWithoutEpoch], &Fault::ALL, 1);
    holds("jobs without an epoch", mistake);
}
