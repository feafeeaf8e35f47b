//! Four real replicas under one limit of requests a minute.

use super::*;
use crate::support::ModelProcess;

const RPM: usize = 600;
const MINUTES: usize = 3;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "three real minutes, four processes"]
async fn four_workers_under_600_a_minute() {
    let scene = Scene::new("replicas").await;
    let script = format!(r#"{{"latency": "50ms..400ms", "seed": 3, "limits": {{"rpm": {RPM}}}}}"#);
    let server = ModelProcess::start(&scene.folder.join("bill.jsonl"), &script);
    let rpm = RPM.to_string();
    let _workers: Vec<Process> = (0..4)
        .map(|_| scene.worker(server.base_url(), &["--rpm", &rpm]))
        .collect();
    let mut batch = batch("replicas", Caps::default());
    batch.concurrency = 32;
    // More than there is time for.
    scene.submit(batch, documents(RPM * MINUTES)).await;
    let times = || {
        let bill = server.bill();
        let received = bill
            .into_iter()
            .filter(|entry| entry.event == Event::Received);
        received.map(|entry| entry.at_ms).collect::<Vec<u64>>()
    };
    let minutes = MINUTES as u64 * 60_000;
    let times = loop {
        let times = times();
        if times.last().copied().unwrap_or(0) >= times.first().copied().unwrap_or(0) + minutes {
            break times;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    let densest = (0..times.len())
        .map(|at| times[at..].partition_point(|time| *time < times[at] + 60_000))
        .max();
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let number = |count: usize| count as f64;
    let millis = usize::try_from(times[times.len() - 1] - times[0]).unwrap();
    let span = number(millis) / 60_000.0;
    let used = number(times.len()) / span / number(RPM);
    let throttled = server
        .bill()
        .iter()
        .filter(|entry| entry.status == Some(429))
        .count();
    println!(
        "{} calls in {span:.2} minutes: at most {densest:?} in a sliding minute, {:.1} % used, {throttled} 429s",
        times.len(),
        used * 100.0
    );
    assert!(densest <= Some(RPM), "{densest:?}");
    assert!(used >= 0.95, "{used}");
    assert_eq!(throttled, 0);
}
