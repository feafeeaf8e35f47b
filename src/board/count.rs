//! How many documents stand at each stage, from what batches add up to.
//!
//! Pure. A batch knows how many documents are through each stage, and so how many have come to a stage and not through
//! it; of those it knows how many were given up or stopped in all, not where. Where only one thing can have become of
//! them, that is arithmetic; else rows tell, as far as they were counted, and what is left over goes where most is left.

use std::{array, collections::HashMap};

use graphmill_jobs::BatchId;

use crate::{
    flow::Stage,
    store::{Resolutions, Shown, Standers, Standing},
};

/// Days of which the board shows what was done.
pub(super) const DAYS: usize = 7;

const OF_A_DOCUMENT: usize = Stage::OF_A_DOCUMENT;

/// What stands at a stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) waiting: u64,
    /// Admitted, and nobody works on them yet.
    pub(super) taken: u64,
    pub(super) in_work: u64,
    pub(super) through: u64,
    pub(super) failed: u64,
    pub(super) stopped: u64,
    /// Through, by the day on which the batch was opened, the oldest first.
    pub(super) by_day: [u64; DAYS],
}

impl Count {
    pub(super) const fn total(&self) -> u64 {
        self.waiting + self.taken + self.in_work + self.through + self.failed + self.stopped
    }

    /// Of what has come to an end here, what is through, in hundredths of a percent; none, if nothing has.
    pub(super) const fn success(&self) -> Option<u64> {
        let ended = self.through + self.failed + self.stopped;
        (self.through * 10_000).checked_div(ended)
    }

    pub(super) fn add(&mut self, other: &Self) {
        let Self {
            waiting,
            taken,
            in_work,
            through,
            failed,
            stopped,
            by_day,
        } = other;
        self.waiting += waiting;
        self.taken += taken;
        self.in_work += in_work;
        self.through += through;
        self.failed += failed;
        self.stopped += stopped;
        for (day, more) in self.by_day.iter_mut().zip(by_day) {
            *day += more;
        }
    }

    fn done_on(&mut self, days_ago: Option<i32>, count: u64) {
        self.through += count;
        let day = days_ago.and_then(|days| (DAYS - 1).checked_sub(usize::try_from(days).ok()?));
        if let Some(day) = day.and_then(|day| self.by_day.get_mut(day)) {
            *day += count;
        }
    }
}

/// What stands at each stage.
pub(super) type Counts = [Count; Stage::ALL.len()];

/// Documents by the stage at which they are.
type ByStage = [u64; OF_A_DOCUMENT];

/// Rows that were counted, of each batch.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows(HashMap<BatchId, ByStage>);

impl Rows {
    pub(super) fn of(standers: &[Standers], only: impl Fn(&Standers) -> bool) -> Self {
        let mut rows = HashMap::<BatchId, ByStage>::new();
        for standers in standers.iter().filter(|standers| only(standers)) {
            let counts = rows.entry(standers.batch).or_default();
            if let Some(count) = counts.get_mut(standers.stage.place()) {
                *count += standers.count;
            }
        }
        Self(rows)
    }

    fn of_batch(&self, batch: Option<BatchId>) -> ByStage {
        let counted = batch.and_then(|batch| self.0.get(&batch));
        counted.copied().unwrap_or_default()
    }
}

/// Documents that wait, of which rows are to be counted if they are not all that has not ended.
fn waiting(of: &Standing, in_work: u64) -> u64 {
    let known = of.completed + of.failed + of.abandoned + of.cancelled + in_work;
    if of.ended {
        0
    } else {
        of.accepted.saturating_sub(known)
    }
}

/// Whether rows must tell where documents of the batch have failed.
pub(super) fn needs_failed(of: &Standing) -> bool {
    of.batch.is_some() && of.failed + of.abandoned > 0 && (of.cancelled > 0 || !of.ended)
}

/// Whether rows must tell where documents of the batch wait.
pub(super) fn needs_waiting(of: &Standing) -> bool {
    of.batch.is_some() && of.cancelled > 0 && waiting(of, 0) > 0
}

/// What was counted besides.
#[derive(Debug, Clone, Default)]
pub(super) struct Counted {
    pub(super) taken: Rows,
    pub(super) in_work: Rows,
    pub(super) failed: Rows,
    pub(super) waiting: Rows,
    pub(super) resolutions: Vec<Resolutions>,
}

/// Adds everything up.
pub(super) fn counts(standings: &[Standing], counted: &Counted) -> Counts {
    let mut counts = Counts::default();
    for of in standings {
        for (count, passed) in counts.iter_mut().zip(of.passed) {
            count.done_on(of.days_ago, passed);
        }
        // What has come to a stage and is not through it.
        let mut left: ByStage = array::from_fn(|stage| {
            let came = stage
                .checked_sub(1)
                .map_or(of.accepted, |before| of.passed[before]);
            came.saturating_sub(of.passed[stage])
        });
        let mut put = |rows: ByStage, total: u64, to: fn(&mut Count) -> &mut u64| {
            for (count, at) in counts.iter_mut().zip(spread(&mut left, rows, total)) {
                *to(count) += at;
            }
        };
        let (taken, in_work) = (
            counted.taken.of_batch(of.batch),
            counted.in_work.of_batch(of.batch),
        );
        let (all_taken, all_in_work) = (taken.iter().sum(), in_work.iter().sum());
        put(in_work, all_in_work, |count| &mut count.in_work);
        put(taken, all_taken, |count| &mut count.taken);
        let wait = waiting(of, all_taken + all_in_work);
        put(
            counted.failed.of_batch(of.batch),
            of.failed + of.abandoned,
            |count| &mut count.failed,
        );
        put(counted.waiting.of_batch(of.batch), wait, |count| {
            &mut count.waiting
        });
        put(ByStage::default(), of.cancelled, |count| &mut count.stopped);
    }
    let resolve = &mut counts[Stage::Resolve.place()];
    for of in &counted.resolutions {
        match super::task::standing(of.status, of.leased) {
            Shown::Waiting => resolve.waiting += of.count,
            Shown::Taken => resolve.taken += of.count,
            Shown::InWork => resolve.in_work += of.count,
            Shown::Failed => resolve.failed += of.count,
            Shown::Stopped => resolve.stopped += of.count,
            Shown::Through | Shown::Any => resolve.done_on(of.days_ago, of.count),
        }
    }
    counts
}

/// Takes `total` from what is `left`: first where rows say so, then where most is.
fn spread(left: &mut ByStage, rows: ByStage, mut total: u64) -> ByStage {
    let mut put = ByStage::default();
    let mut take = |left: &mut ByStage, at: usize, wanted: u64| {
        let taken = wanted.min(left[at]).min(total);
        left[at] -= taken;
        put[at] += taken;
        total -= taken;
        total
    };
    for (at, wanted) in rows.into_iter().enumerate() {
        take(left, at, wanted);
    }
    while let Some(at) = (0..OF_A_DOCUMENT)
        .filter(|&at| left[at] > 0)
        .max_by_key(|&at| left[at])
    {
        if take(left, at, u64::MAX) == 0 {
            break;
        }
    }
    put
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(accepted: u64, passed: ByStage) -> Standing {
        Standing {
            batch: Some(BatchId::generate()),
            days_ago: Some(0),
            ended: false,
            accepted,
            passed,
            completed: passed[4],
            failed: 0,
            abandoned: 0,
            cancelled: 0,
        }
    }

    fn rows(batch: Option<BatchId>, at: &[(Stage, u64)]) -> Rows {
        let standers: Vec<Standers> = at
            .iter()
            .map(|&(stage, count)| Standers {
                batch: batch.unwrap(),
                stage,
                leased: false,
                count,
            })
            .collect();
        Rows::of(&standers, |_| true)
    }

    fn by_stage(counts: &Counts, of: fn(&Count) -> u64) -> Vec<u64> {
        counts.iter().map(of).collect()
    }

    #[test]
    fn what_is_not_through_waits_or_is_in_work() {
        let of = standing(100, [40, 30, 30, 20, 10]);
        let counted = Counted {
            in_work: rows(of.batch, &[(Stage::Mentions, 4), (Stage::Chunk, 1)]),
            taken: rows(of.batch, &[(Stage::Assemble, 2)]),
            ..Counted::default()
        };
        let counts = counts(&[of], &counted);
        assert_eq!(by_stage(&counts, |count| count.in_work), [1, 4, 0, 0, 0, 0]);
        assert_eq!(by_stage(&counts, |count| count.taken), [0, 0, 0, 0, 2, 0]);
        assert_eq!(
            by_stage(&counts, |count| count.waiting),
            [59, 6, 0, 10, 8, 0]
        );
        assert_eq!(
            by_stage(&counts, |count| count.through),
            [40, 30, 30, 20, 10, 0]
        );
        assert_eq!(
            by_stage(&counts, |count| count.failed + count.stopped),
            [0; 6]
        );
        // Each stage has what came to it.
        assert_eq!(by_stage(&counts, Count::total), [100, 40, 30, 30, 20, 0]);
        assert_eq!(counts[0].by_day, [0, 0, 0, 0, 0, 0, 40]);
    }

    #[test]
    fn in_a_batch_that_has_ended_what_is_not_through_was_given_up_or_stopped() {
        let ended = Standing {
            ended: true,
            batch: None,
            days_ago: None,
            ..standing(50, [50, 45, 45, 45, 40])
        };
        let given_up = Standing {
            abandoned: 10,
            ..ended
        };
        assert!(!needs_failed(&given_up) && !needs_waiting(&given_up));
        let found = counts(&[given_up], &Counted::default());
        assert_eq!(by_stage(&found, |count| count.failed), [0, 5, 0, 0, 5, 0]);
        assert_eq!(found[0].by_day, [0; DAYS]);
        let stopped = Standing {
            cancelled: 10,
            ..ended
        };
        let found = counts(&[stopped], &Counted::default());
        assert_eq!(by_stage(&found, |count| count.stopped), [0, 5, 0, 0, 5, 0]);
        assert_eq!(by_stage(&found, |count| count.waiting), [0; 6]);
    }

    #[test]
    fn rows_tell_where_several_things_have_become_of_documents() {
        let of = Standing {
            failed: 2,
            abandoned: 3,
            cancelled: 4,
            ..standing(30, [20, 10, 10, 10, 10])
        };
        assert!(needs_failed(&of) && needs_waiting(&of));
        let counted = Counted {
            failed: rows(of.batch, &[(Stage::Mentions, 5)]),
            waiting: rows(of.batch, &[(Stage::Chunk, 9), (Stage::Mentions, 2)]),
            ..Counted::default()
        };
        let found = counts(&[of], &counted);
        assert_eq!(by_stage(&found, |count| count.failed), [0, 5, 0, 0, 0, 0]);
        assert_eq!(by_stage(&found, |count| count.waiting), [9, 2, 0, 0, 0, 0]);
        assert_eq!(by_stage(&found, |count| count.stopped), [1, 3, 0, 0, 0, 0]);
        // What was not counted to the end is where there is room for it: no number is lost.
        let blind = counts(&[of], &Counted::default());
        assert_eq!(
            by_stage(&blind, Count::total),
            by_stage(&found, Count::total)
        );
        let sum = |counts: &Counts, of: fn(&Count) -> u64| by_stage(counts, of).iter().sum::<u64>();
        assert_eq!(sum(&blind, |count| count.failed), 5);
        assert_eq!(sum(&blind, |count| count.stopped), 4);
    }

    #[test]
    fn success_is_of_what_has_ended() {
        let count = Count {
            through: 2,
            failed: 1,
            waiting: 10,
            ..Count::default()
        };
        assert_eq!(count.success(), Some(6666));
        assert_eq!(Count::default().success(), None);
    }
}
