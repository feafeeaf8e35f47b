//! Servers that are away, an address that is taken, and no address at all.

use std::{net::TcpListener, time::Instant};

use graphmill::servers::{Servers, Settings};

use super::{Process, worker};
use crate::support::{Ground, PATIENCE, Redis, bare, poll, say, settings};

/// A scrape without servers says what is known, and that the servers are away; and all of it when they are back.
#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_goes_without_servers() {
    let private = Settings {
        max_connections: 50,
        ..settings("metrics-away")
    };
    let servers = Servers::start(private.clone()).unwrap();
    let url = servers.database_url().unwrap().to_owned();
    graphmill::store::migrate(&url).await.unwrap();
    let mut command = bare();
    command
        .env("DATABASE_URL", &url)
        .env("REDIS_URL", servers.redis_url().unwrap())
        .arg("worker");
    let worker = Process::start(&mut command);
    let up = async |server: &str| {
        let page = worker.scrape().await;
        page.get("graphmill_up", &[("server", server)]).unwrap()
    };
    poll("both are seen", async || {
        (up("postgres").await == 1.0 && up("redis").await == 1.0).then_some(())
    })
    .await;
    servers.stop();
    let away = poll("both are missed", async || {
        let begun = Instant::now();
        let page = worker.scrape().await;
        assert!(begun.elapsed() < PATIENCE / 4, "{:?}", begun.elapsed());
        let up = |server| page.get("graphmill_up", &[("server", server)]);
        (up("postgres") == Some(0.0) && up("redis") == Some(0.0)).then_some(page)
    })
    .await;
    for name in [
        "graphmill_queue_documents",
        "graphmill_workers",
        "graphmill_window_jobs",
    ] {
        assert_eq!(away.of(name).count(), 0, "{name} is not known");
    }
    let known = [("stage", "chunk"), ("outcome", "completed")];
    assert_eq!(away.get("graphmill_activities_total", &known), Some(0.0));
    assert!(away.get("process_resident_memory_bytes", &[]).unwrap() > 1e6);
    let again = Servers::start(private).unwrap();
    assert_eq!(again.database_url(), Some(&*url), "the same address");
    poll("both are seen again", async || {
        let page = worker.scrape().await;
        page.get("graphmill_workers", &[])
    })
    .await;
    drop(worker);
    again.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_told_of_before_anything_is_begun() {
    let (ground, redis) = (Ground::new().await, Redis::start());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for command in [&["worker"][..], &["serve", "--listen", "127.0.0.1:0"]] {
        let mut start = super::binary(&ground, &redis);
        let said = say(start.args(command).args(["--metrics", &address])).exits(3);
        let wanted = format!("can't listen on {address} for metrics (--metrics)");
        assert!(said.stderr.contains(&wanted), "{said:#?}");
    }
    assert_eq!(ground.number("select count(*) from worker").await, 0);
    let said = say(super::binary(&ground, &redis).args(["worker", "--metrics", "9464"])).exits(2);
    assert!(said.stderr.contains("--metrics"), "{said:#?}");
}

/// There is one route, and it takes no key and gives no other.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_else_is_served_there() {
    let (ground, redis) = (Ground::new().await, Redis::start());
    let worker = Process::start(&mut worker(&ground, &redis));
    for (path, status) in [("/metrics", 200), ("/", 404), ("/api/batches", 404)] {
        let url = format!("http://{}{path}", worker.metrics);
        let answer = super::client().get(url).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
    }
    let url = format!("http://{}/metrics", worker.metrics);
    let answer = super::client().post(url).send().await.unwrap();
    assert_eq!(answer.status(), 405);
}
