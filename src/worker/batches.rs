//! What a batch's documents are worked with: read once a process and generation, within which it never changes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use graphmill_jobs::{BatchId, OrganizationId};

use super::Engine;
use crate::{
    extractors::{Extractor, ModelChoice},
    pipeline::{ByStage, Digests, Recipe, Settings},
    store::StoreError,
    workflow::{self, Setup},
};

/// Batches remembered at most; the memory of a worker stays flat.
const REMEMBERED: usize = 256;

/// What a batch's documents are worked with.
pub(super) struct BatchContext {
    /// None: this process has no extractor of that name.
    pub(super) extractor: Option<Arc<dyn Extractor>>,
    pub(super) extractor_name: String,
    pub(super) recipes: ByStage<Recipe>,
    pub(super) digests: Digests,
    pub(super) settings: Settings,
    /// The model that is called, if any.
    pub(super) model: Option<ModelChoice>,
}

#[derive(Default)]
pub(super) struct Batches(Mutex<HashMap<(BatchId, i32), Arc<BatchContext>>>);

impl Batches {
    /// The context of a batch's generation; `None` if it is gone.
    pub(super) async fn get(
        &self,
        engine: &Engine,
        organization: OrganizationId,
        id: (BatchId, i32),
    ) -> Result<Option<Arc<BatchContext>>, StoreError> {
        if let Some(context) = self.lock().get(&id) {
            return Ok(Some(Arc::clone(context)));
        }
        let mut transaction = engine.store.app(organization).await?;
        let Some(setup) = workflow::setup(&mut transaction, organization, id.0).await? else {
            return Ok(None);
        };
        transaction.rollback().await?;
        let Setup {
            extractor: extractor_name,
            settings,
            model,
            recipes,
        } = setup;
        let extractor = engine.extractors.get(&extractor_name);
        let context = Arc::new(BatchContext {
            digests: extractor
                .as_ref()
                .map(|extractor| Digests::of(&recipes, &**extractor, model.as_ref()))
                .unwrap_or_default(),
            extractor,
            extractor_name,
            recipes,
            settings,
            model,
        });
        let mut remembered = self.lock();
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(id, Arc::clone(&context));
        Ok(Some(context))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(BatchId, i32), Arc<BatchContext>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
