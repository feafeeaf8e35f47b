//! The budget of an organization: all its batches together never pass it, and it is what the ledger says.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use graphmill::store::{self, BudgetChange, CallRow, Claimed, Paid, Period, Spending, Unanswered};
use graphmill::workflow;
use graphmill_jobs::{LlmCallId, WorkflowExecutionId};
use tokio::task::JoinSet;

use super::*;
use crate::support::ModelProcess;

/// Tokens of all batches, and of one of them.
const CAP: u64 = 200_000;
const OWN_CAP: u64 = 90_000;
const DOCUMENTS: usize = 80;

fn tokens(cap: u64) -> Caps {
    Caps {
        cost: None,
        tokens: Some(i64::try_from(cap).unwrap()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bill_passes_neither_the_cap_of_a_batch_nor_that_of_the_organization() {
    let scene = Scene::new("organization").await;
    let server = ModelProcess::start(
        &scene.folder.join("bill.jsonl"),
        r#"{"latency": "20ms..80ms", "seed": 11}"#,
    );
    let set = |cap: u64| {
        let cap = cap.to_string();
        say(scene.binary().args(["budget", "set", "--max-tokens", &cap])).exits(0)
    };
    set(CAP);
    let start = || scene.worker(server.base_url(), &["--model-concurrency", "16"]);
    // Questions of their own: nothing that one batch pays is an answer to the other.
    let mut first = documents(2 * DOCUMENTS);
    let second = first.split_off(DOCUMENTS);
    let own = scene.submit(batch("own", tokens(OWN_CAP)), first).await;
    let open = batch("open", Caps::default());
    let open = scene.submit(open, second).await;
    let mut worker = start();
    for more in [10, 6] {
        let wanted = received(&server.bill()) + more;
        support::wait_for("the next kill", || {
            (received(&server.bill()) >= wanted).then_some(())
        });
        std::mem::replace(&mut worker, start()).kill();
    }
    scene.paused(own).await;
    let reason = scene.paused(open).await;
    for part in [
        "the organization's budget is used up",
        &format!("reserved of {CAP}"),
        "the next call may take up to",
        "graphmill budget set",
    ] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    let of_own: BTreeSet<String> = scene
        .ledger("own")
        .into_iter()
        .map(|call| call.id)
        .collect();
    let bill = server.bill();
    let all = billed_tokens(&bill);
    assert!((1..=CAP).contains(&all), "billed {all} of {CAP}");
    let is_own = |entry: &&Entry| entry.call.as_ref().is_some_and(|id| of_own.contains(id));
    let one: Vec<Entry> = bill.iter().filter(is_own).cloned().collect();
    let one = billed_tokens(&one);
    assert!((1..=OWN_CAP).contains(&one), "billed {one} of {OWN_CAP}");

    // All that waited for it go on; what waits for a budget of its own is resumed by itself.
    let said = set(100_000_000);
    assert!(said.stderr.contains(&format!("{open} goes on")), "{said:?}");
    let resume = ["batch", "resume", "own", "--max-tokens", "100000000"];
    say(scene.binary().args(resume)).exits(0);
    scene.completed(own, DOCUMENTS).await;
    scene.completed(open, DOCUMENTS).await;
    let bill = server.bill();
    assert!(billed_tokens(&bill) > CAP, "the cap was in the way");
    let mut ledger = scene.ledger("own");
    ledger.extend(scene.ledger("open"));
    let again = assert_paid_once(&bill, &ledger);
    assert!(again <= with(&ledger, "in_doubt").len());
    assert_is_the_ledger(&scene.ground).await;
    let shown = say(scene.binary().args(["budget", "show", "--json"]))
        .exits(0)
        .json();
    assert_eq!(shown["max_tokens"], 100_000_000, "{shown}");
    // What is in doubt may have been billed, and has no row that says how much.
    let (spent, reserved) = (&shown["spent_tokens"], &shown["reserved_tokens"]);
    let billed = billed_tokens(&bill);
    assert!(spent.as_u64().unwrap() <= billed, "{shown}: {billed}");
    let most = spent.as_u64().unwrap() + reserved.as_u64().unwrap();
    assert!(billed <= most, "{shown}: {billed}");
    let rebuilt = say(scene.binary().args(["budget", "rebuild"])).exits(0);
    assert!(
        rebuilt.stderr.contains("what the ledger says"),
        "{rebuilt:?}"
    );
}

/// Every budget is the sum of its calls.
async fn assert_is_the_ledger(ground: &Ground) {
    let of_batches = ground.texts(support::BUDGETS_THAT_ARE_WRONG).await;
    assert!(of_batches.is_empty(), "{of_batches:#?}");
    let of_organization = "
        with s as (
            select coalesce(sum(c.prompt_tokens + c.completion_tokens) filter (where c.response is not null), 0) as spent,
                   coalesce(sum(c.cost) filter (where c.response is not null), 0) as cost,
                   coalesce(sum(c.reserved_tokens) filter (where c.response is null
                                                             and c.outcome in ('intent', 'in_doubt')), 0) as reserved
            from organization_budget o
            left join llm_call c on c.organization_id = o.organization_id and c.started_at >= o.counted_from)
        select format('%s %s %s | %s %s %s', o.spent_tokens, o.spent_cost, o.reserved_tokens, s.spent, s.cost, s.reserved)
        from organization_budget o, s
        where (o.spent_tokens, o.spent_cost, o.reserved_tokens) is distinct from (s.spent, s.cost, s.reserved)";
    let wrong = ground.texts(of_organization).await;
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// The same numbers every time (splitmix64).
struct Dice(u64);

impl Dice {
    fn of(&mut self, range: std::ops::Range<i64>) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let many = u64::try_from(range.end - range.start).unwrap();
        range.start + i64::try_from((z ^ (z >> 31)) % many).unwrap()
    }
}

/// A call without a model: claimed, and ended in one of all ways.
async fn call(
    store: &store::Store,
    batch: BatchId,
    dice: &mut Dice,
) -> Result<bool, store::StoreError> {
    let id = LlmCallId::generate();
    let hash: [u8; 32] = std::array::from_fn(|_| u8::try_from(dice.of(0..256)).unwrap());
    let row = CallRow {
        id,
        batch,
        execution: WorkflowExecutionId::generate(),
        stage: "mentions",
        unit: 0,
        operation: "chat",
        provider: "openai",
        endpoint: "nowhere",
        model: "mock",
        prompt: "test@1",
        hash: &hash,
        sample: 0,
        reserved: Spending {
            tokens: dice.of(50..100),
            cost: Some(dice.of(500..1000)),
        },
        lasts: Duration::from_secs(60),
    };
    let mut claim = store.app(OURS).await?;
    let claimed = store::claim_call(&mut claim, OURS, &row).await?;
    if claimed != Claimed::Made {
        return Ok(false);
    }
    claim.commit().await?;
    let mut end = store.app(OURS).await?;
    let paid = Paid {
        prompt_tokens: dice.of(1..30),
        cached_tokens: 1,
        completion_tokens: dice.of(1..20),
        cost: Some(dice.of(1..500)),
    };
    let unanswered = match dice.of(0..10) {
        0 => Some(Unanswered::Rejected),
        1 => Some(Unanswered::InDoubt),
        _ => None,
    };
    match unanswered {
        Some(how) => store::file_unanswered(&mut end, OURS, id, how, None, "so").await?,
        None => store::file_answer(&mut end, OURS, id, 200, b"{}", paid).await?,
    }
    end.commit().await?;
    if unanswered == Some(Unanswered::InDoubt) && dice.of(0..2) == 0 {
        let mut late = store.app(OURS).await?;
        store::file_answer(&mut late, OURS, id, 200, b"{}", paid).await?;
        late.commit().await?;
    }
    Ok(true)
}

/// Callers of all batches until `stop`; how many calls they made.
fn callers(
    ground: &Ground,
    batches: &[BatchId],
    each: u64,
    stop: &Arc<AtomicBool>,
    made: &Arc<AtomicU64>,
) -> JoinSet<()> {
    let mut callers = JoinSet::new();
    for caller in 0..each * batches.len() as u64 {
        let store = ground.store.clone();
        let batch = batches[usize::try_from(caller).unwrap() % batches.len()];
        let (stop, made) = (Arc::clone(stop), Arc::clone(made));
        callers.spawn(async move {
            let mut dice = Dice(caller);
            while !stop.load(Ordering::Relaxed) {
                // No deadlock either: that would be an error.
                if call(&store, batch, &mut dice).await.unwrap() {
                    made.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    callers
}

async fn batches(scene: &Scene, count: usize) -> Vec<BatchId> {
    let mut batches = Vec::new();
    for n in 0..count {
        let batch = batch(&format!("b{n}"), Caps::default());
        batches.push(scene.submit(batch, Vec::new()).await);
    }
    batches
}

async fn change(scene: &Scene, clear: bool, tokens: Option<i64>, period: Option<Period>) {
    let caps = Caps { cost: None, tokens };
    let change = BudgetChange { caps, period };
    workflow::change_budget(&scene.ground.store, OURS, clear, change)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_is_opened_changed_and_cleared_among_calls_is_what_the_ledger_says() {
    let scene = Scene::new("opened").await;
    let batches = batches(&scene, 3).await;
    let (stop, made) = <(Arc<AtomicBool>, Arc<AtomicU64>)>::default();
    let callers = callers(&scene.ground, &batches, 3, &stop, &made);
    let plenty = Some(1_000_000_000);
    let calls_more = async || {
        let wanted = made.load(Ordering::Relaxed) + 20;
        support::eventually("more calls", async || {
            made.load(Ordering::Relaxed) >= wanted
        })
        .await;
    };
    for round in 0..6 {
        calls_more().await;
        let period = [Period::Total, Period::Month][round % 2];
        change(&scene, false, plenty, Some(period)).await;
        assert_is_the_ledger(&scene.ground).await;
        calls_more().await;
        assert_is_the_ledger(&scene.ground).await;
        // A month that begins: what was called before it does not count.
        let before =
            "update organization_budget set counted_from = counted_from - interval '40 days'
                      where period = 'month'";
        scene.ground.execute(before).await.unwrap();
        if period == Period::Month {
            workflow::begin_month(&scene.ground.store, OURS)
                .await
                .unwrap();
            let month = "select (counted_from = date_trunc('month', now(), 'UTC'))::text from organization_budget";
            assert_eq!(scene.ground.text(month).await, "true");
        }
        let wrong = workflow::rebuild_budgets(&scene.ground.store, OURS)
            .await
            .unwrap();
        assert_eq!(wrong, 0);
        // A month that begins this very moment: calls in work were begun in the one before.
        if period == Period::Month {
            let now = "select from organization_budget for update;
                       update organization_budget
                       set counted_from = clock_timestamp(), spent_tokens = 0, spent_cost = 0,
                           reserved_tokens = 0, reserved_cost = 0";
            scene.ground.execute(now).await.unwrap();
            assert_is_the_ledger(&scene.ground).await;
        }
        calls_more().await;
        assert_is_the_ledger(&scene.ground).await;
        if round % 3 == 2 {
            change(&scene, true, None, None).await;
            let rows = "select count(*) from organization_budget";
            assert_eq!(scene.ground.number(rows).await, 0);
        }
    }
    stop.store(true, Ordering::Relaxed);
    callers.join_all().await;
    change(&scene, false, plenty, None).await;
    assert_is_the_ledger(&scene.ground).await;
    // A cap that is reached lets nothing more through.
    change(&scene, true, Some(0), None).await;
    let mut dice = Dice(99);
    assert!(
        !call(&scene.ground.store, batches[0], &mut dice)
            .await
            .unwrap()
    );
    // What somebody else broke is mended.
    let broken = "update budget set spent_tokens = 7, calls = 1; update organization_budget set reserved_tokens = 3";
    scene.ground.execute(broken).await.unwrap();
    let wrong = workflow::rebuild_budgets(&scene.ground.store, OURS)
        .await
        .unwrap();
    assert_eq!(wrong, 4);
    assert_is_the_ledger(&scene.ground).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_month_lets_the_batches_go_on() {
    let scene = Scene::new("month").await;
    let server = crate::support::ModelServer::start("").await;
    let set = ["budget", "set", "--max-tokens", "8000", "--period", "month"];
    say(scene.binary().args(set)).exits(0);
    let _worker = scene.worker(&server.base_url(), &[]);
    let id = scene
        .submit(batch("month", Caps::default()), documents(12))
        .await;
    let reason = scene.paused(id).await;
    assert!(
        reason.contains("budget of this month is used up"),
        "{reason}"
    );
    // The month was another one: what was called then was called long ago. Whoever sweeps begins the new one.
    let ago = "update llm_call set started_at = started_at - interval '40 days';
               update organization_budget set counted_from = counted_from - interval '40 days',
                                              max_tokens = 100000000";
    scene.ground.execute(ago).await.unwrap();
    scene.completed(id, 12).await;
    assert_is_the_ledger(&scene.ground).await;
    let old = "select count(*) from organization_budget o
               where o.spent_tokens < (select sum(prompt_tokens + completion_tokens) from llm_call)";
    assert_eq!(
        scene.ground.number(old).await,
        1,
        "what was paid before does not count"
    );
}

/// Not a test: what the organization's row costs. Run with `--ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn calls_a_second_with_and_without_a_budget_of_the_organization() {
    for round in 0..3 {
        for capped in [false, true] {
            for many in [1, 8] {
                let scene = Scene::new("speed").await;
                let batches = batches(&scene, many).await;
                if capped {
                    change(&scene, false, Some(1_000_000_000), None).await;
                }
                let (stop, made) = <(Arc<AtomicBool>, Arc<AtomicU64>)>::default();
                let each = 16 / many as u64;
                let callers = callers(&scene.ground, &batches, each, &stop, &made);
                let begun = Instant::now();
                tokio::time::sleep(Duration::from_secs(5)).await;
                stop.store(true, Ordering::Relaxed);
                callers.join_all().await;
                #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                let speed = made.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
                eprintln!("round {round}: {many} batches, capped {capped}: {speed:.0} calls/s");
            }
        }
    }
}
