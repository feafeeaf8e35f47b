//! A hundred clients that come and go, two replicas that are killed, a Redis that is flushed and connections to
//! Postgres that are cut: each client has been told the log, event by event.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use graphmill::workflow::NewBatch;
use tokio::{sync::Semaphore, task::JoinSet};

use super::*;
use crate::support::{Drill, Scripted, documents, poll};

const CLIENTS: usize = 100;
const RECONNECTS: usize = 20;
const DOCUMENTS: usize = 200;
/// Events that a client reads before it goes: up to so many.
const SPELL: u64 = 50;

/// Numbers without a pattern, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// Reads from the beginning of the log to its end, with many a break; returns the ids and names that it was told.
async fn client(
    number: usize,
    urls: Vec<String>,
    breaks: Arc<AtomicUsize>,
) -> Vec<(i64, Option<String>)> {
    let client = super::client();
    let mut dice = Dice(0x9E37_79B9 + number as u64 * 7919);
    let (mut told, mut after, mut spells) = (Vec::new(), 0, 0);
    loop {
        let url = &urls[usize::try_from(dice.roll(urls.len() as u64)).unwrap()];
        let Ok(response) = Reading::ask(&client, url, Some(after)).await else {
            // The replica is being restarted.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        if response.status() == 204 {
            return told;
        }
        if response.status() == 503 {
            continue;
        }
        assert_eq!(response.status(), 200);
        let mut reading = Reading::of(response);
        let mut left = if spells < RECONNECTS {
            1 + dice.roll(SPELL)
        } else {
            u64::MAX
        };
        while left > 0 {
            // Broken off, or at its end: the next request says which.
            let event = tokio::time::timeout(PATIENCE, reading.event()).await;
            let Ok(Some(event)) = event.expect("one more event, in time") else {
                break;
            };
            after = event.position();
            told.push((after, event.event));
            left -= 1;
        }
        spells += 1;
        breaks.fetch_add(1, Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_is_told_the_log_over_breaks_kills_and_a_flush() {
    let gate = Arc::new(Semaphore::new(0));
    let at_gate = Arc::clone(&gate);
    let extractor = Scripted::new(move |unit| {
        let gate = Arc::clone(&at_gate);
        async move {
            // A document goes on when somebody has let it.
            if unit.stage == "mentions" && unit.unit == 0 {
                gate.acquire().await.unwrap().forget();
            }
            Ok(())
        }
    });
    let mut drill = Drill::with(extractor).await;
    let ground = Arc::clone(&drill.ground);
    let batch = NewBatch {
        concurrency: 8,
        ..new_batch("followed")
    };
    let batch = ground.submit(&batch, documents(DOCUMENTS)).await;
    let mut replicas = [
        Replica::start(&ground, &drill.redis),
        Replica::start(&ground, &drill.redis),
    ];
    // Before there is a crowd: it would have to wait.
    let mut redis = drill.connection().await;
    let paths = [
        format!("/api/batches/{batch}/events"),
        format!("/api/knowledge/extraction/progress/{batch}"),
    ];
    let urls = |path: &String| replicas.iter().map(|replica| replica.url(path)).collect();
    let (all, progress): (Vec<String>, Vec<String>) = (urls(&paths[0]), urls(&paths[1]));
    let breaks = Arc::new(AtomicUsize::new(0));
    let (mut readers, mut watchers) = (JoinSet::new(), JoinSet::new());
    for number in 0..CLIENTS {
        // Every fifth follows progress alone.
        if number % 5 == 0 {
            watchers.spawn(client(number, progress.clone(), Arc::clone(&breaks)));
        } else {
            readers.spawn(client(number, all.clone(), Arc::clone(&breaks)));
        }
    }
    // The work goes on as the clients come and go, so that they meet the tail of the log as well as its middle.
    let mut let_go = 0;
    let ordered = CLIENTS * RECONNECTS;
    for step in 1..=20 {
        let share = DOCUMENTS * step / 20;
        gate.add_permits(share - let_go);
        let_go = share;
        if step % 3 == 0 {
            replicas[step / 3 % 2].restart(&ground, &drill.redis);
        }
        match step {
            7 => {
                redis::cmd("FLUSHALL")
                    .query_async::<()>(&mut redis)
                    .await
                    .unwrap();
            }
            11 => {
                let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                           where datname = current_database() and application_name like 'graphmill%'";
                assert!(ground.number(cut).await > 0);
            }
            _ => {}
        }
        let wanted = (ordered / 2 * step / 20).min(ordered);
        poll("the clients come and go", async || {
            (breaks.load(Relaxed) >= wanted).then_some(())
        })
        .await;
    }
    // What a lost connection has cost is made up for.
    gate.add_permits(10 * DOCUMENTS);
    ground.ended(batch).await;
    let log = ground.events(batch).await;
    let wanted: Vec<_> = whole(&log)
        .into_iter()
        .map(|(position, name)| (position, Some(name)))
        .collect();
    assert!(wanted.len() > 7 * DOCUMENTS);
    for told in readers.join_all().await {
        assert!(told == wanted, "a client was told something else");
    }
    let wanted: Vec<_> = log
        .iter()
        .filter(|event| event.kind.headway().is_some())
        .map(|event| (event.position, None))
        .collect();
    for told in watchers.join_all().await {
        assert!(told == wanted, "a client was told other progress");
    }
    assert!(breaks.load(Relaxed) >= ordered);
    drill.stop().await;
}
