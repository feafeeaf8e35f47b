//! Ended batches, deleted whole: marked first, many at once, and taken apart afterwards. From the mark on a batch is
//! none for anybody else, so that nobody sees half of it and nobody opens it again.

use graphmill_jobs::{BatchId, ClusterId, WorkflowExecutionId};
use uuid::Uuid;

use super::{BATCHES, Kind, Pruning, heal};
use crate::store::{self, Step, StoreError, Tally};

/// Clusters that are mended in one step. **Source:** those that many batches share have many members.
const MENDED: i64 = 50;
/// Executions that are taken apart together.
const TOGETHER: i64 = 100;

impl Pruning<'_> {
    /// Batches that ended at least `age` seconds ago, and what earlier prunes have left of others.
    pub(super) async fn batches(&mut self, age: f64) -> Result<(), StoreError> {
        let mut last = None;
        loop {
            let page = self
                .step("batches", async |connection, organization, _| {
                    store::prunable_batches(connection, organization, age, last, BATCHES).await
                })
                .await?;
            let Some(end) = page.last() else { break };
            last = Some(end.id);
            let all: Vec<BatchId> = page.iter().map(|batch| batch.id).collect();
            let mut engine = self.store.engine().await?;
            let unmoved =
                store::batches_with_unmoved_events(&mut engine, self.organization, &all).await?;
            drop(engine);
            let ready: Vec<BatchId> = page
                .iter()
                .filter(|batch| !batch.owes_webhook && !unmoved.contains(&batch.id))
                .map(|batch| batch.id)
                .collect();
            self.pruned.waiting += (all.len() - ready.len()) as u64;
            if self.delete && !ready.is_empty() {
                self.step("marks", async |connection, organization, _| {
                    // Resolutions that are at work begin anew, without what is going.
                    store::change_clusters(connection, organization).await?;
                    store::claim_batches(connection, organization, age, &ready).await
                })
                .await?;
            } else {
                self.going.extend(ready);
            }
        }
        let going: Vec<BatchId> = self
            .step("batches", async |connection, organization, _| {
                store::going_batches(connection, organization).await
            })
            .await?;
        self.going.extend(going);
        let mut going: Vec<BatchId> = self.going.iter().copied().collect();
        going.sort_unstable();
        if self.delete {
            // All of them, before the first of them loses its rows: they say how the others hold together.
            for &batch in &going {
                self.mend(batch).await?;
            }
        }
        for &batch in &going {
            self.decisions(batch, &going).await?;
            self.clusters(batch).await?;
            self.executions(batch).await?;
            self.documents(batch).await?;
            self.log(batch).await?;
            self.row(batch).await?;
        }
        if self.delete && !going.is_empty() {
            self.loose_ends().await?;
        }
        Ok(())
    }

    /// The clusters that other batches have in common with one that is going.
    async fn mend(&mut self, batch: BatchId) -> Result<(), StoreError> {
        for resolution in self.resolutions(batch).await? {
            let mut last: Option<ClusterId> = None;
            loop {
                let page = self
                    .step("members", async |connection, organization, _| {
                        let page = store::clusters_of_resolution(
                            connection,
                            organization,
                            resolution,
                            last,
                            MENDED,
                        )
                        .await?;
                        store::lock_clusters(connection, organization).await?;
                        let tied = store::tied_members(connection, organization, &page).await?;
                        let mended: Vec<_> = tied
                            .chunk_by(|a, b| a.cluster == b.cluster)
                            .flat_map(heal::mended)
                            .collect();
                        if !mended.is_empty() {
                            store::mend_members(connection, organization, &mended).await?;
                        }
                        Ok(page)
                    })
                    .await?;
                let Some(&end) = page.last() else { break };
                last = Some(end);
            }
        }
        Ok(())
    }

    async fn resolutions(&mut self, batch: BatchId) -> Result<Vec<Uuid>, StoreError> {
        self.step("resolutions", async |connection, organization, _| {
            store::resolutions_of(connection, organization, batch).await
        })
        .await
    }

    async fn decisions(&mut self, batch: BatchId, going: &[BatchId]) -> Result<(), StoreError> {
        loop {
            let done = self
                .step("decisions", async |connection, organization, step| {
                    // A dry run looks at all of them, once.
                    let most = if step.delete { step.most } else { i64::MAX };
                    let step = Step { most, ..step };
                    store::lock_clusters(connection, organization).await?;
                    store::prune_decisions(connection, organization, batch, going, step).await
                })
                .await?;
            for (link, bytes) in done.gone {
                if self.links.insert(link) {
                    self.pruned.add(Kind::Decisions, Tally { rows: 1, bytes });
                }
            }
            for link in done.kept {
                self.pruned.decisions_kept += u64::from(self.links.insert(link));
            }
            if !done.more {
                return Ok(());
            }
        }
    }

    async fn clusters(&mut self, batch: BatchId) -> Result<(), StoreError> {
        for resolution in self.resolutions(batch).await? {
            loop {
                let (clusters, links, more) = self
                    .step("clusters", async |connection, organization, step| {
                        let most = if step.delete { step.most } else { i64::MAX };
                        let step = Step { most, ..step };
                        store::prune_resolution(connection, organization, resolution, step).await
                    })
                    .await?;
                self.pruned.add(Kind::Clusters, clusters);
                self.pruned.add(Kind::Proposals, links);
                if !more {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn executions(&mut self, batch: BatchId) -> Result<(), StoreError> {
        let mut last: Option<WorkflowExecutionId> = None;
        loop {
            let look = Step {
                most: TOGETHER,
                delete: false,
            };
            let (page, bytes) = self
                .step("executions", async |connection, organization, _| {
                    store::prune_executions(connection, organization, batch, last, look).await
                })
                .await?;
            let Some(&end) = page.last() else {
                return Ok(());
            };
            loop {
                let found = self
                    .step("found", async |connection, organization, step| {
                        let most = if step.delete { step.most } else { i64::MAX };
                        let step = Step { most, ..step };
                        store::prune_found(connection, organization, &page, step).await
                    })
                    .await?;
                let rows: u64 = found.iter().map(|(_, tally)| tally.rows).sum();
                for (table, tally) in found {
                    if let Some(kind) = Kind::of_table(&table) {
                        self.pruned.add(kind, tally);
                    }
                }
                if !self.delete || rows == 0 {
                    break;
                }
            }
            if self.delete {
                // The same ones: they are the first that are left.
                let delete = Step {
                    most: i64::try_from(page.len()).unwrap_or(TOGETHER),
                    delete: true,
                };
                self.step("executions", async |connection, organization, _| {
                    store::prune_executions(connection, organization, batch, None, delete).await
                })
                .await?;
            } else {
                last = Some(end);
            }
            self.pruned.add(Kind::Executions, bytes);
        }
    }

    async fn documents(&mut self, batch: BatchId) -> Result<(), StoreError> {
        let mut last = None;
        loop {
            let (gone, end) = self
                .step("documents", async |connection, organization, step| {
                    store::prune_documents(connection, organization, batch, last, step).await
                })
                .await?;
            self.pruned.add(Kind::Documents, gone);
            if end.is_none() {
                return Ok(());
            }
            last = end;
        }
    }

    async fn log(&mut self, batch: BatchId) -> Result<(), StoreError> {
        let mut last = 0;
        loop {
            let (gone, end) = self
                .step("log", async |connection, organization, step| {
                    store::prune_events_of(connection, organization, batch, last, step).await
                })
                .await?;
            self.pruned.add(Kind::Events, gone);
            match end {
                Some(end) => last = end,
                None => return Ok(()),
            }
        }
    }

    async fn row(&mut self, batch: BatchId) -> Result<(), StoreError> {
        // Its configuration is the largest part, and small.
        const BYTES: u64 = 2_000;
        let gone = !self.delete
            || self
                .step("batch", async |connection, organization, _| {
                    store::prune_batch_row(connection, organization, batch).await
                })
                .await?;
        if gone {
            let tally = Tally {
                rows: 1,
                bytes: BYTES,
            };
            self.pruned.add(Kind::Batches, tally);
        }
        Ok(())
    }

    /// What other batches' resolutions propose about entities that are gone.
    async fn loose_ends(&mut self) -> Result<(), StoreError> {
        let mut last = None;
        loop {
            let (gone, end) = self
                .step("proposals", async |connection, organization, step| {
                    store::drop_dangling_links(connection, organization, last, step.most).await
                })
                .await?;
            self.pruned.add(Kind::Proposals, gone);
            if end.is_none() {
                return Ok(());
            }
            last = end;
        }
    }
}
