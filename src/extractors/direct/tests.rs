//! The way without servers: one call for the same question, few at once, everybody pauses.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;

use super::*;
use crate::extractors::{DropReason, Exchange, Operation, Refusal, TransportError};

/// Answers from a list, and knows how many were asked at once.
#[derive(Default)]
struct Scripted {
    exchanges: Mutex<Vec<Exchange>>,
    sent: AtomicUsize,
    under_way: AtomicUsize,
    most: AtomicUsize,
    /// How often an exchange lets others go first.
    yields: usize,
}

#[async_trait]
impl Provider for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn endpoint(&self) -> &'static str {
        "http://scripted"
    }

    async fn exchange(&self, id: &str, _: &CallRequest) -> Result<Exchange, TransportError> {
        assert!(!id.is_empty());
        self.sent.fetch_add(1, Ordering::SeqCst);
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        // Long enough that one more than allowed would come in.
        for _ in 0..self.yields {
            tokio::task::yield_now().await;
        }
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        let next = self.exchanges.lock().unwrap().pop();
        next.ok_or_else(|| TransportError::Broken("the script is over".into()))
    }

    fn verdict(&self, operation: Operation, exchange: &Exchange) -> Verdict {
        crate::extractors::verdict(operation, exchange)
    }
}

fn says(status: u16, body: &str) -> Exchange {
    Exchange {
        status,
        retry_after: None,
        body: body.as_bytes().to_vec(),
    }
}

fn answer() -> Exchange {
    says(200, r#"{"choices":[{"message":{"content":"x"}}]}"#)
}

fn calls(mut exchanges: Vec<Exchange>, at_once: usize) -> (Arc<Scripted>, DirectCalls) {
    exchanges.reverse();
    let scripted = Arc::new(Scripted {
        exchanges: Mutex::new(exchanges),
        ..Scripted::default()
    });
    let calls = DirectCalls::new(Arc::clone(&scripted) as Arc<dyn Provider>, "tiny", at_once);
    (scripted, calls)
}

fn request(question: &str) -> CallRequest {
    CallRequest {
        operation: Operation::Chat,
        body: question.as_bytes().to_vec(),
        prompt: "mentions@1".to_owned(),
        sample: 0,
        max_output_tokens: 1,
    }
}

fn unit(number: i32) -> UnitName {
    UnitName {
        document: "d".into(),
        stage: "mentions",
        unit: number,
    }
}

#[tokio::test]
async fn the_same_question_is_asked_once() {
    let (scripted, calls) = calls(vec![answer(), answer()], 4);
    let (unit, same) = (unit(0), request("a"));
    let answers = join_all((0..5).map(|_| calls.call(&unit, &same))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert!(calls.call(&unit, &same).await.unwrap().replayed);
    assert_eq!(scripted.sent.load(Ordering::SeqCst), 1);
    let again = CallRequest { sample: 1, ..same };
    assert!(!calls.call(&unit, &again).await.unwrap().replayed);
    assert_eq!(scripted.sent.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn no_more_than_allowed_are_under_way() {
    let scripted = Arc::new(Scripted {
        exchanges: Mutex::new(vec![answer(); 20]),
        yields: 30,
        ..Scripted::default()
    });
    let calls = DirectCalls::new(Arc::clone(&scripted) as Arc<dyn Provider>, "tiny", 5);
    let unit = unit(0);
    let requests: Vec<CallRequest> = (0..20).map(|number| request(&number.to_string())).collect();
    let answers = join_all(requests.iter().map(|request| calls.call(&unit, request))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(scripted.most.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn a_pause_is_everybodys() {
    let wait = Duration::from_millis(60);
    let throttled = Exchange {
        retry_after: Some(wait),
        ..says(429, "")
    };
    let (_, calls) = calls(vec![throttled, answer()], 1);
    let unit = unit(0);
    let begun = Instant::now();
    let told = calls.call(&unit, &request("a")).await;
    assert!(
        matches!(told, Err(CallError::Wait { wait: told, .. }) if told == wait),
        "{told:?}"
    );
    assert!(calls.call(&unit, &request("b")).await.is_ok());
    assert!(begun.elapsed() >= wait);
    // Without a header the pause doubles; an answer ended the row above.
    let made_up: Vec<u64> = (0..8).map(|_| calls.pause(None).as_secs()).collect();
    assert_eq!(made_up, [1, 2, 4, 8, 16, 32, 60, 60]);
}

#[tokio::test]
async fn every_verdict_has_its_error() {
    let (_, calls) = calls(vec![says(401, ""), says(500, ""), says(413, "")], 1);
    let unit = unit(0);
    let (a, b, c, d) = (request("a"), request("b"), request("c"), request("d"));
    assert!(matches!(
        calls.call(&unit, &a).await,
        Err(CallError::Pause { .. })
    ));
    assert!(matches!(
        calls.call(&unit, &b).await,
        Err(CallError::Transient(_))
    ));
    assert!(matches!(
        calls.call(&unit, &c).await,
        Err(CallError::Refused {
            why: Refusal::ContextOverflow,
            ..
        })
    ));
    assert!(matches!(
        calls.call(&unit, &d).await,
        Err(CallError::Transient(_))
    ));
}

#[tokio::test]
async fn what_a_unit_left_out_is_noted_once() {
    let (_, calls) = calls(Vec::new(), 1);
    let mut dropped = Dropped::default();
    dropped.add(DropReason::Ungrounded, 3);
    for number in [0, 0, 1] {
        calls.dropped(&unit(number), &dropped).await.unwrap();
    }
    assert_eq!(calls.all_dropped().of(DropReason::Ungrounded), 6);
}
