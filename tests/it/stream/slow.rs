//! A reader that stops reading.

use std::time::Instant;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;

/// Events of a burst, and what one of them has.
const BURST: usize = 4000;
const BYTES: usize = 1000;
/// What a server may need for a reader that has stopped, and for all that it has read meanwhile.
const ROOM: u64 = 32 << 20;

/// Takes `count` events off a stream, which must be those that follow `after`; returns the last one's position.
async fn take(reading: &mut Reading, count: usize, mut after: i64) -> i64 {
    for _ in 0..count {
        let position = reading.must().await.position();
        assert!(
            position == after + 1 || after == 0,
            "{position} after {after}"
        );
        after = position;
    }
    after
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_slows_nobody_and_costs_no_memory() {
    let (ground, redis) = (Ground::new().await, Redis::start());
    let batch = idle_batch(&ground, "slow").await;
    let replica = Replica::start(&ground, &redis);
    let path = format!("/api/batches/{batch}/events");
    let quick = super::client();
    let mut quick = Reading::open(&quick, &replica.url(&path), None).await;
    assert_eq!(quick.must().await.event.as_deref(), Some("Snapshot"));
    // It asks, and takes nothing.
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(("127.0.0.1", replica.port))
            .await
            .unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut first = [0; 15];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        slow.push(stream);
    }
    // All are there and one round has been made, so that what comes is growth.
    publish(&ground, batch, BURST, BYTES).await;
    let mut position = take(&mut quick, BURST, 0).await;
    let before = replica.memory();
    let begun = Instant::now();
    for _ in 0..4 {
        publish(&ground, batch, BURST, BYTES).await;
        position = take(&mut quick, BURST, position).await;
    }
    println!(
        "{} events of a kilobyte in {:?}",
        4 * BURST,
        begun.elapsed()
    );
    let after = replica.memory();
    println!("{} kB before, {} kB after", before >> 10, after >> 10);
    assert!(
        after < before + ROOM,
        "{before} bytes became {after}, with 20 readers that have stopped before {} MB",
        (5 * BURST * BYTES) >> 20
    );
    // One of them reads on, and misses nothing.
    let mut stream = slow.pop().unwrap();
    let (mut text, mut seen, mut buffer) = (String::new(), Vec::new(), vec![0; 1 << 16]);
    while seen.last() != Some(&position) {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await;
        let read = read.expect("in time").unwrap();
        assert!(read > 0, "the stream has ended");
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        let end = text.rfind('\n').map_or(0, |end| end + 1);
        for line in text.drain(..end).collect::<String>().lines() {
            if let Some(id) = line.strip_prefix("id: ") {
                seen.push(id.parse::<i64>().unwrap());
            }
        }
    }
    // The snapshot has a position too.
    assert_eq!(seen.len(), 1 + 5 * BURST);
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]));
}
