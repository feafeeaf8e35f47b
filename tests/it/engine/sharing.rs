//! Slots: never more of a batch in work than it asked for, on however many replicas; and batches that share them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use graphmill::{
    extractors::{Extractors, UnitName},
    flow::{BatchStateName, EventKind},
    worker::WorkerSettings,
    workflow::NewBatch,
};
use tokio::sync::watch;

use crate::support::{Drill, Scripted, documents, new_batch, poll, quick};

/// Which documents are in work by what the extractor sees, and the most at a time.
#[derive(Clone, Default)]
struct InWork(Arc<Mutex<(BTreeMap<String, usize>, usize)>>);

impl InWork {
    fn begin(&self, document: &str) {
        let mut it = self.0.lock().unwrap();
        *it.0.entry(document.to_owned()).or_default() += 1;
        it.1 = it.1.max(it.0.len());
    }

    fn end(&self, document: &str) {
        let mut it = self.0.lock().unwrap();
        let count = it.0.get_mut(document).unwrap();
        *count -= 1;
        if *count == 0 {
            it.0.remove(document);
        }
    }

    fn now(&self) -> usize {
        self.0.lock().unwrap().0.len()
    }

    fn most(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_have_exactly_the_batch_s_concurrency_in_work() {
    const LIMIT: usize = 7;
    let mut drill = Drill::new().await;
    let (in_work, open) = (InWork::default(), Arc::new(watch::channel(false).0));
    let settings = WorkerSettings {
        stager: Duration::from_millis(10),
        ..quick()
    };
    for _ in 0..3 {
        let (in_work, open) = (in_work.clone(), Arc::clone(&open));
        let extractor = Scripted::new(move |unit: UnitName| {
            let (in_work, mut open) = (in_work.clone(), open.subscribe());
            async move {
                in_work.begin(&unit.document);
                open.wait_for(|&it| it).await.unwrap();
                tokio::task::yield_now().await;
                in_work.end(&unit.document);
                Ok(())
            }
        });
        let store = drill.ground.another_store().await;
        let extractors = Extractors::default().with(extractor);
        drill.start_on(store, extractors, settings).await;
    }
    let ground = Arc::clone(&drill.ground);
    let batch = NewBatch {
        concurrency: u32::try_from(LIMIT).unwrap(),
        ..new_batch("exact")
    };
    let id = ground.submit(&batch, documents(120)).await;
    // Whoever makes no more calls has left its place to another.
    let processing = format!(
        "select count(*) from workflow_execution
         where batch_id = '{}' and status = 'processing' and current_activity <> 'assemble-graph'",
        id.uuid()
    );
    let looked = async || usize::try_from(ground.number(processing.clone()).await).unwrap();
    poll("the limit is reached", async || {
        let rows = looked().await;
        assert!(rows <= LIMIT, "{rows} in processing");
        (in_work.now() == LIMIT).then_some(())
    })
    .await;
    // Nobody goes on meanwhile, and three stagers look a hundred times a second.
    for _ in 0..100 {
        assert_eq!(looked().await, LIMIT);
    }
    open.send_replace(true);
    let mut reached = 0;
    while !ground.batch(id).await.state.name().has_ended() {
        let rows = looked().await;
        assert!(rows <= LIMIT, "{rows} in processing");
        reached += usize::from(rows == LIMIT);
    }
    assert!(reached > 0, "the slots are filled again");
    assert_eq!(in_work.most(), LIMIT);
    let ended = drill.ends(id).await;
    assert_eq!(ended.counts.completed, 120);
}

/// Not the time that it takes but the order: how much of a large batch is done before a small one, which came later,
/// is through. The first in, first out of before let hundreds of documents go ahead.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_batch_does_not_wait_behind_a_large_one() {
    const MANY: usize = 300;
    let mut drill = Drill::new().await;
    let settings = WorkerSettings {
        slots: 4,
        ..quick()
    };
    let extractors = Extractors::default().with(Scripted::plain());
    drill.start(extractors, settings).await;
    let ground = Arc::clone(&drill.ground);
    let large = NewBatch {
        concurrency: 400,
        ..new_batch("large")
    };
    let large = ground.submit(&large, documents(MANY)).await;
    let begun = format!(
        "select (count(*) >= 30)::int from workflow_execution where batch_id = '{}' and status = 'completed'",
        large.uuid()
    );
    ground.until("the large one has begun", &begun, 1).await;
    let small = ground.submit(&new_batch("small"), documents(10)).await;
    poll("the small one has ended", async || {
        let ended = ground.batch(small).await.state.name().has_ended();
        ended.then_some(())
    })
    .await;
    let between = async |kind: &str| {
        let (small, large) = (small.uuid(), large.uuid());
        ground
            .number(format!(
                "select count(*) from event where batch_id = '{large}' and type = '{kind}' and position between
                     (select min(position) from event where batch_id = '{small}')
                     and (select max(position) from event where batch_id = '{small}' and type = 'DocumentCompleted')"
            ))
            .await
    };
    let (admitted, completed) = (
        between("DocumentStarted").await,
        between("DocumentCompleted").await,
    );
    println!("of the large one {admitted} were admitted and {completed} completed meanwhile");
    assert!(
        admitted <= 20,
        "{admitted} documents of the large batch were admitted meanwhile"
    );
    assert!(
        completed <= 60,
        "{completed} documents of the large batch were completed meanwhile"
    );
    poll("the large one has ended", async || {
        let ended = ground.batch(large).await.state.name().has_ended();
        ended.then_some(())
    })
    .await;
    assert_eq!(ground.ended(small).await.counts.completed, 10);
    let ended = ground.ended(large).await;
    assert_eq!(ended.state.name(), BatchStateName::Completed);
    assert_eq!(ended.counts.completed, MANY as u64, "nobody starves");
    let started = ground.events(large).await;
    let started = started
        .iter()
        .filter(|event| matches!(event.kind, EventKind::DocumentStarted));
    assert_eq!(started.count(), MANY);
    drill.stop().await;
}
