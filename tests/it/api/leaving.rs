//! Clients that leave in the middle of a request: no connection stays in a transaction, and nobody is answered with
//! what is another organization's.

use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
};

use graphmill::store::{self, PoolSettings, Store};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};

use super::*;
use crate::{
    roles::theirs,
    support::{Ground, texts},
};

/// Polls `work` so many times, each when it is woken, and leaves it as it is then; `false`: it was done before.
async fn leave_after(polls: usize, work: impl Future<Output = ()>) -> bool {
    let mut work = pin!(work);
    let mut left = polls;
    poll_fn(|context: &mut Context<'_>| {
        if left == 0 {
            return Poll::Ready(true);
        }
        left -= 1;
        work.as_mut().poll(context).map(|()| false)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_while_a_transaction_begins_leaves_none_behind() {
    let ground = Ground::new().await;
    let theirs = theirs(&ground).await;
    let settings = PoolSettings {
        app: 2,
        engine: 1,
        drivers: 1,
        ..PoolSettings::default()
    };
    let store = Store::connect(ground.url(), &settings).await.unwrap();
    let state = "select concat_ws(' ', now() = statement_timestamp(),
                                  nullif(current_setting('graphmill.organization', true), ''))";
    let mut left = 0;
    for polls in (0..8).cycle().take(800) {
        let app = async {
            let mut read = store.app(theirs).await.unwrap();
            store::batches(&mut read, theirs, None, 10).await.unwrap();
            let mut read = store.app_snapshot(theirs).await.unwrap();
            store::batches(&mut read, theirs, None, 10).await.unwrap();
        };
        left += usize::from(leave_after(polls, app).await);
        let engine = async { drop(store.engine_transaction().await.unwrap()) };
        leave_after(polls, engine).await;
        // Whoever has the connections next: a transaction of one statement, of nobody.
        let (mut one, mut other) = (
            store.outside().await.unwrap(),
            store.outside().await.unwrap(),
        );
        let mut driver = store.driver().await.unwrap();
        for connection in [&mut one, &mut other, &mut driver] {
            assert_eq!(
                texts(&mut **connection, state).await,
                ["t"],
                "after {polls} polls"
            );
        }
    }
    assert!(left > 100, "only {left} of 800 left in the middle");
}

/// Sends a request by hand, and is gone after a moment.
async fn ask_and_leave(address: &str, path: &str, key: &str, moment: Duration) {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let _ = tokio::time::timeout(moment, connection.readable()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_leave_in_the_middle_of_a_request_disturb_nobody() {
    let server = Server::start().await;
    say(server_command(&server).args(["organization", "create", "others"])).exits(0);
    let theirs = new_key(
        &server.database,
        server.redis.as_ref().unwrap(),
        &["--organization", "others"],
    );
    let ours = with(&documents(&[("a", SECRET)]), "name", json!(SECRET));
    object(server.submit(&ours).await, 201).await;
    let owner = sqlx::PgPool::connect(server.database.url()).await.unwrap();
    let sessions = async |state: &str| {
        let sql = format!(
            "select pid::text from pg_stat_activity where datname = current_database()
             and application_name like 'graphmill%' and state like '{state}' order by pid"
        );
        texts(&owner, sql).await
    };
    let paths = [
        "/api/batches",
        "/api/batches/Zanzibar",
        "/api/batches/Zanzibar/executions",
        "/api/batches/Zanzibar/cost",
        "/api/batches/Zanzibar/events",
        "/api/batches/Zanzibar/export",
        "/api/entities?q=zanzibar",
        "/api/relations",
        "/readyz",
    ];
    let mut leaving = JoinSet::new();
    for at in 0..1200 {
        if leaving.len() >= 24 {
            leaving.join_next().await.unwrap().unwrap();
        }
        let address = server.address.trim_start_matches("http://").to_owned();
        let key = if at % 2 == 0 {
            server.key.clone()
        } else {
            theirs.clone()
        };
        leaving.spawn(async move {
            let moment = Duration::from_micros(at * 37 % 8_000);
            let path = paths[usize::try_from(at).unwrap() % paths.len()];
            ask_and_leave(&address, path, &key, moment).await;
        });
    }
    leaving.join_all().await;
    // A transaction that nobody ends would be ended by Postgres after ten seconds, and its session with it.
    let begun = Instant::now();
    while !sessions("idle in transaction%").await.is_empty() || !sessions("active").await.is_empty()
    {
        assert!(
            begun.elapsed() < Duration::from_secs(8),
            "a transaction is open"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..100 {
        let path = "/api/batches";
        let (asked, others) = tokio::join!(
            server.get(path),
            server.bare(Method::GET, path).bearer_auth(&theirs).send()
        );
        let (found, nothing) = (object(asked, 200).await, object(others.unwrap(), 200).await);
        assert_eq!(found["batches"][0]["name"], SECRET);
        assert_eq!(nothing["batches"], json!([]));
    }
    server.stop();
}

fn server_command(server: &Server) -> std::process::Command {
    command(&server.database, server.redis.as_ref().unwrap())
}
