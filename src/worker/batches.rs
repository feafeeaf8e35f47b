//! What a batch's documents are worked with: read once a process, since it never changes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use graphmill_jobs::{BatchId, OrganizationId};

use super::Engine;
use crate::{
    extractors::{Extractor, ModelChoice},
    graph::Ontology,
    pipeline::{BatchConfig, Settings},
    store::{self, StoreError},
};

/// Batches remembered at most; the memory of a worker stays flat.
const REMEMBERED: usize = 256;

/// What a batch's documents are worked with.
pub(super) struct BatchContext {
    /// None: this process has no extractor of that name.
    pub(super) extractor: Option<Arc<dyn Extractor>>,
    pub(super) extractor_name: String,
    pub(super) ontology: Arc<Ontology>,
    pub(super) settings: Settings,
    /// The model that is called, if any.
    pub(super) model: Option<ModelChoice>,
}

#[derive(Default)]
pub(super) struct Batches(Mutex<HashMap<BatchId, Arc<BatchContext>>>);

impl Batches {
    /// The context of a batch; `None` if it is gone.
    pub(super) async fn get(
        &self,
        engine: &Engine,
        organization: OrganizationId,
        id: BatchId,
    ) -> Result<Option<Arc<BatchContext>>, StoreError> {
        if let Some(context) = self.lock().get(&id) {
            return Ok(Some(Arc::clone(context)));
        }
        let mut transaction = engine.store.app(organization).await?;
        let Some((extractor, ontology, config)) =
            store::batch_setup(&mut transaction, organization, id).await?
        else {
            return Ok(None);
        };
        let ontology = store::ontology_by_id(&mut transaction, organization, ontology).await?;
        transaction.rollback().await?;
        let BatchConfig { settings, model } =
            serde_json::from_value(config).map_err(|error| StoreError::Decode {
                what: "a batch's configuration",
                source: error.into(),
            })?;
        let context = Arc::new(BatchContext {
            extractor: engine.extractors.get(&extractor),
            extractor_name: extractor,
            ontology: Arc::new(ontology),
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

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<BatchId, Arc<BatchContext>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
