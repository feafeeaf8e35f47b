//! What becomes of a ring: pushed once, handled once, in its own queue, within its window, by as many as there are slots.

use std::sync::{Arc, atomic::Ordering};

use graphmill::{
    flow::Stage,
    queue::{Drained, Queue, Rung, Slots},
};

use super::{Probe, SECONDS, TestRedis, WINDOW, ring, rings, until, work};

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_is_handled_once_and_leaves_nothing_behind() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let probe = Arc::new(Probe::default());
    let workers = work(&queue, Slots::each(4), &probe);
    let all = rings(300);
    let mut rung = Vec::new();
    for stage in Stage::ALL {
        rung.extend(queue.ring(stage, &all, WINDOW).await.unwrap());
    }
    assert!(rung.iter().all(|rung| *rung == Rung::Pushed));
    probe.ended(all.len() * 6).await;
    until("all is acknowledged", async || {
        redis.leftovers().await.is_empty()
    })
    .await;
    for stage in Stage::ALL {
        assert!(
            all.iter().all(|ring| probe.times(stage, ring) == 1),
            "{stage}"
        );
    }
    assert_eq!(queue.depths().await.unwrap(), [0; 6]);
    assert_eq!(workers.drain(SECONDS).await, Drained::Clean);
    let mut keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut redis.raw().await)
        .await
        .unwrap();
    keys.sort();
    assert_eq!(
        keys,
        ["core:apalis:queues:list"],
        "a drain takes the workers off the list"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_stage_has_a_queue_and_a_type_of_its_own() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let ring = ring(7);
    for (place, stage) in Stage::ALL.into_iter().enumerate() {
        assert_eq!(
            queue
                .ring(stage, std::slice::from_ref(&ring), 1)
                .await
                .unwrap(),
            [Rung::Pushed]
        );
        let mut wanted = [0; 6];
        wanted[..=place].fill(1);
        assert_eq!(queue.depths().await.unwrap(), wanted);
    }
    // a process that works one stage leaves the others alone
    let probe = Arc::new(Probe::default());
    let workers = work(&queue, Slots::each(0).with(Stage::Relations, 1), &probe);
    probe.ended(1).await;
    assert_eq!(probe.times(Stage::Relations, &ring), 1);
    workers.drain(SECONDS).await;
    assert_eq!(queue.depths().await.unwrap(), [1, 1, 1, 0, 1, 1]);
    assert_eq!(queue.depth(Stage::Chunk).await.unwrap(), 1);

    let workers = work(&queue, Slots::each(1), &probe);
    probe.ended(6).await;
    assert!(
        Stage::ALL
            .iter()
            .all(|stage| probe.times(*stage, &ring) == 1)
    );
    workers.drain(SECONDS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ringing_twice_is_one_delivery_also_while_it_is_in_flight() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let one = [ring(0)];
    assert_eq!(
        queue.ring(Stage::Chunk, &one, WINDOW).await.unwrap(),
        [Rung::Pushed]
    );
    assert_eq!(
        queue.ring(Stage::Chunk, &one, WINDOW).await.unwrap(),
        [Rung::Present]
    );
    assert_eq!(
        queue.ring_again(Stage::Chunk, &one, WINDOW).await.unwrap(),
        [Rung::Present]
    );
    let probe = Arc::new(Probe::gated());
    let workers = work(&queue, Slots::each(2), &probe);
    probe.running(1).await;
    assert_eq!(
        queue.ring(Stage::Chunk, &one, WINDOW).await.unwrap(),
        [Rung::Present]
    );
    probe.open(9);
    probe.ended(1).await;
    until("it is acknowledged", async || {
        redis.leftovers().await.is_empty()
    })
    .await;
    assert_eq!(probe.times(Stage::Chunk, &one[0]), 1);
    // it may be rung again after that, and another epoch is another ring
    assert_eq!(
        queue.ring(Stage::Chunk, &one, WINDOW).await.unwrap(),
        [Rung::Pushed]
    );
    probe.ended(2).await;
    workers.drain(SECONDS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_ring_is_pushed_again_and_its_copy_is_no_bad_job() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let one = [ring(0)];
    let probe = Arc::new(Probe::gated());
    let workers = work(&queue, Slots::each(0).with(Stage::Chunk, 1), &probe);
    queue.ring(Stage::Chunk, &one, WINDOW).await.unwrap();
    probe.running(1).await;
    // in flight: known, and nowhere in the list
    assert_eq!(
        queue.ring_again(Stage::Chunk, &one, WINDOW).await.unwrap(),
        [Rung::Pushed]
    );
    assert_eq!(
        queue.ring_again(Stage::Chunk, &one, WINDOW).await.unwrap(),
        [Rung::Present]
    );
    probe.open(9);
    probe.ended(1).await;
    until("nothing is left", async || {
        redis.leftovers().await.is_empty()
    })
    .await;
    assert_eq!(workers.tally().set_aside, 0);
    workers.drain(SECONDS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_window_takes_nothing_more() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let all = rings(1_200);
    let rung = queue.ring(Stage::Chunk, &all, 1_000).await.unwrap();
    assert!(rung[..1_000].iter().all(|rung| *rung == Rung::Pushed));
    assert!(rung[1_000..].iter().all(|rung| *rung == Rung::Full));
    assert_eq!(queue.depth(Stage::Chunk).await.unwrap(), 1_000);
    let known: usize = redis::cmd("HLEN")
        .arg("graphmill:chunk:data")
        .query_async(&mut redis.raw().await)
        .await
        .unwrap();
    assert_eq!(known, 1_000, "nothing was written for the others");
    let rung = queue.ring(Stage::Chunk, &all[..1], 1_000).await.unwrap();
    assert_eq!(rung, [Rung::Present], "a full window still knows its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_due_at_once_are_no_trouble() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    queue
        .ring(Stage::Chunk, &rings(12_000), usize::MAX >> 1)
        .await
        .unwrap();
    let probe = Arc::new(Probe::default());
    let workers = work(&queue, Slots::each(16), &probe);
    probe.ended(12_000).await;
    workers.drain(SECONDS).await;
    assert!(redis.leftovers().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_producer_in_another_language_is_served() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let probe = Arc::new(Probe::default());
    let workers = work(&queue, Slots::each(1), &probe);
    let (now, later) = (ring(0), ring(0));
    let mut pipe = redis::pipe();
    pipe.atomic();
    for (id, ring) in [("mine:1", &now), ("mine:2", &later)] {
        pipe.hset(
            "graphmill:chunk:data",
            id,
            serde_json::to_string(ring).unwrap(),
        );
        pipe.cmd("HSET")
            .arg(format!("graphmill:chunk:meta:{id}"))
            .arg(&["attempts", "0", "max_attempts", "25", "status", "Pending"]);
    }
    // one at once, one as the stock client schedules everything it pushes
    pipe.rpush("graphmill:chunk:active", "mine:1");
    pipe.zadd("graphmill:chunk:scheduled", "mine:2", 1);
    pipe.query_async::<()>(&mut redis.raw().await)
        .await
        .unwrap();
    probe.ended(2).await;
    assert_eq!(
        (
            probe.times(Stage::Chunk, &now),
            probe.times(Stage::Chunk, &later)
        ),
        (1, 1)
    );
    workers.drain(SECONDS).await;
    assert!(redis.leftovers().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_are_all_used_and_never_exceeded() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let probe = Arc::new(Probe::gated());
    let workers = work(&queue, Slots::each(0).with(Stage::Mentions, 7), &probe);
    queue
        .ring(Stage::Mentions, &rings(500), WINDOW)
        .await
        .unwrap();
    probe.running(7).await;
    // One for the front counts for as long as its feeder looks whether there is something.
    until("no more of its slots are taken", async || {
        workers.in_flight(Stage::Mentions) == 7
    })
    .await;
    until("its slots are known to all", async || {
        queue.live_slots().await.unwrap() == [0, 7, 0, 0, 0, 0]
    })
    .await;
    assert_eq!(
        queue.depth(Stage::Mentions).await.unwrap(),
        493,
        "it takes what it has slots for"
    );
    probe.open(500);
    probe.ended(500).await;
    assert_eq!(probe.most.load(Ordering::SeqCst), 7);
    workers.drain(SECONDS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_first_is_taken_first_and_what_is_behind_is_taken_too() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let (behind, first) = (rings(40), rings(6));
    queue.ring(Stage::Chunk, &behind, WINDOW).await.unwrap();
    let rung = queue.ring_first(Stage::Chunk, &first, WINDOW, false).await;
    assert_eq!(rung.unwrap(), [Rung::Pushed; 6]);
    // Where it waits makes no difference to whether it is there.
    let again = queue.ring_again(Stage::Chunk, &first, WINDOW).await;
    assert_eq!(again.unwrap(), [Rung::Present; 6]);
    let again = queue.ring_first(Stage::Chunk, &behind, WINDOW, true).await;
    assert_eq!(again.unwrap(), vec![Rung::Present; 40]);
    assert_eq!(queue.depth(Stage::Chunk).await.unwrap(), 46);
    let full = queue.ring_first(Stage::Chunk, &rings(1), 6, false).await;
    assert_eq!(full.unwrap(), [Rung::Full]);

    let probe = Arc::new(Probe::gated());
    let workers = work(&queue, Slots::each(0).with(Stage::Chunk, 8), &probe);
    // Two of the slots are for the front alone.
    probe.running(10).await;
    let begun = |rings: &[graphmill_jobs::Ring]| -> usize {
        rings
            .iter()
            .map(|ring| probe.times(Stage::Chunk, ring))
            .sum()
    };
    assert_eq!((begun(&first), begun(&behind)), (6, 4));
    probe.open(46);
    probe.ended(46).await;
    until("all is acknowledged", async || {
        redis.leftovers().await.is_empty()
    })
    .await;
    workers.drain(SECONDS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_first_finds_a_slot_while_others_have_all_that_are_theirs() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let probe = Arc::new(Probe::gated());
    let workers = work(&queue, Slots::each(0).with(Stage::Chunk, 4), &probe);
    let (behind, first) = (rings(20), rings(3));
    queue.ring(Stage::Chunk, &behind, WINDOW).await.unwrap();
    probe.running(4).await;
    queue
        .ring_first(Stage::Chunk, &first, WINDOW, false)
        .await
        .unwrap();
    probe.running(5).await;
    let of_first = |probe: &Probe| -> usize {
        first
            .iter()
            .map(|ring| probe.times(Stage::Chunk, ring))
            .sum()
    };
    assert_eq!(of_first(&probe), 1, "there is one such slot");
    assert_eq!(workers.in_flight(Stage::Chunk), 5);
    // Whatever ends, and whoever takes its slot: what waits is taken, and the fifth slot is for the front alone.
    probe.open(23);
    probe.ended(23).await;
    assert_eq!(of_first(&probe), 3);
    assert_eq!(probe.most.load(Ordering::SeqCst), 5);
    until("all is acknowledged", async || {
        redis.leftovers().await.is_empty()
    })
    .await;
    workers.drain(SECONDS).await;
    let again = Arc::new(Probe::gated());
    queue.ring(Stage::Chunk, &rings(9), WINDOW).await.unwrap();
    let workers = work(&queue, Slots::each(0).with(Stage::Chunk, 4), &again);
    until("what is behind has all other slots", async || {
        queue.depth(Stage::Chunk).await.unwrap() <= 5
    })
    .await;
    again.open(9);
    workers.drain(SECONDS).await;
    assert!(again.most.load(Ordering::SeqCst) <= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_behind_does_not_wait_for_ever() {
    let redis = TestRedis::start().await;
    let queue = Queue::connect(&redis.url()).await.unwrap();
    let (behind, first) = (rings(4), rings(400));
    queue.ring(Stage::Chunk, &behind, WINDOW).await.unwrap();
    queue
        .ring_first(Stage::Chunk, &first, WINDOW, false)
        .await
        .unwrap();
    let probe = Arc::new(Probe::gated());
    let workers = work(&queue, Slots::each(0).with(Stage::Chunk, 8), &probe);
    // So many at once that the clock has no say: of eight, six are of those in front, and two more beside the eight.
    for step in 1..=40 {
        probe.running(10.min(404 - (step - 1) * 10)).await;
        probe.open(10);
        probe.ended(step * 10).await;
        let begun: usize = behind
            .iter()
            .map(|ring| probe.times(Stage::Chunk, ring))
            .sum();
        if begun == behind.len() {
            probe.open(404);
            probe.ended(404).await;
            workers.drain(SECONDS).await;
            return;
        }
    }
    panic!("what is behind has waited for all that is in front");
}
