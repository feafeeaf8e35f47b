//! Documents that this process has just settled a stage of: the next stage usually comes back here, and need not read
//! text and checkpoints again.
//!
//! An entry is used only if the next lease's epoch follows the settled one directly: then nobody else has leased the
//! execution in between, and the rows can't say anything else.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use graphmill_jobs::WorkflowExecutionId;

use crate::{
    flow::follows_directly,
    pipeline::{Document, UnitRecord},
    store::Fence,
};

/// Bytes of text that are kept at most, and documents: the memory of a worker stays flat.
const BYTES: usize = 64 << 20;
const DOCUMENTS: usize = 1024;

/// A document as it was settled last.
pub(super) struct Settled {
    pub(super) document: Document,
    pub(super) records: Vec<UnitRecord>,
    /// What earlier generations found, if this is not the first.
    pub(super) earlier: Option<Arc<[UnitRecord]>>,
}

#[derive(Default)]
pub(super) struct Recent(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    by_execution: HashMap<WorkflowExecutionId, (i64, Settled)>,
    order: VecDeque<WorkflowExecutionId>,
    bytes: usize,
}

impl Recent {
    /// Keeps what was settled under `fence`; the oldest make room.
    pub(super) fn keep(&self, fence: Fence, settled: Settled) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += settled.document.text.as_str().len();
        if let Some((_, old)) = kept
            .by_execution
            .insert(fence.execution, (fence.epoch, settled))
        {
            kept.bytes -= old.document.text.as_str().len();
        }
        kept.order.push_back(fence.execution);
        while kept.bytes > BYTES || kept.order.len() > DOCUMENTS {
            let Some(oldest) = kept.order.pop_front() else {
                break;
            };
            // Taken ones are gone already, and leave their place in the order behind.
            if let Some((_, old)) = kept.by_execution.remove(&oldest) {
                kept.bytes -= old.document.text.as_str().len();
            }
        }
    }

    /// Takes out what was settled directly before the lease `fence`.
    pub(super) fn take(&self, fence: Fence) -> Option<Settled> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (epoch, settled) = kept.by_execution.remove(&fence.execution)?;
        kept.bytes -= settled.document.text.as_str().len();
        follows_directly(epoch, fence.epoch).then_some(settled)
    }
}

#[cfg(test)]
mod tests {
    use graphmill_jobs::OrganizationId;

    use super::*;
    use crate::graph::Text;

    fn fence(execution: WorkflowExecutionId, epoch: i64) -> Fence {
        Fence {
            organization: OrganizationId::DEFAULT,
            execution,
            epoch,
        }
    }

    fn settled(bytes: usize) -> Settled {
        let document = Document {
            name: "a".into(),
            text: Text::new("x".repeat(bytes)),
        };
        Settled {
            document,
            records: Vec::new(),
            earlier: None,
        }
    }

    #[test]
    fn only_the_lease_that_follows_directly_finds_it() {
        let (recent, execution) = (Recent::default(), WorkflowExecutionId::generate());
        recent.keep(fence(execution, 3), settled(10));
        assert!(recent.take(fence(execution, 4)).is_some());
        assert!(recent.take(fence(execution, 4)).is_none(), "once");
        recent.keep(fence(execution, 3), settled(10));
        assert!(
            recent.take(fence(execution, 5)).is_none(),
            "somebody leased it in between"
        );
    }

    #[test]
    fn the_oldest_make_room() {
        let recent = Recent::default();
        let executions: Vec<_> = (0..5).map(|_| WorkflowExecutionId::generate()).collect();
        for &execution in &executions {
            recent.keep(fence(execution, 1), settled(BYTES / 4));
        }
        assert!(recent.take(fence(executions[0], 2)).is_none());
        assert!(recent.take(fence(executions[4], 2)).is_some());
    }
}
