//! How many small documents a second the HTTP API takes in durably: as batches of one document over connections that are
//! kept, and as lines of one body. The server is a process of its own, and so are Postgres and Redis.
//!
//! `cargo bench --bench submit -- [SECONDS] [CLIENTS]`, on private servers. **Source of the bar:** 1,000 a second on two cores, clients included, at flat memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a measurement that can't go on should stop where it is"
)]

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

const TEXT: &str =
    "Ada Lovelace met Charles Babbage in London in 1833, and wrote about his engine.";

/// The private servers', and the key that is made with them.
const FOLDER: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/submit");

struct Server {
    child: Child,
    address: String,
    key: String,
}

impl Server {
    /// The program as it is run, on private servers that force their writes to the disk.
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_graphmill"))
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--log",
                "graphmill=info",
            ])
            .env("GRAPHMILL_DATA_DIR", FOLDER)
            .env_remove("DATABASE_URL")
            .env_remove("REDIS_URL")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .filter(|line| line.contains("listening"))
            .find_map(|line| {
                let at = line.find("127.0.0.1:")?;
                let rest = &line[at..];
                let end = rest.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ':'));
                Some(rest[..end.unwrap_or(rest.len())].to_owned())
            })
            .unwrap();
        // Its log is read on, or it would wait for that.
        std::thread::spawn(move || lines.for_each(drop));
        let key = fs::read_to_string(format!("{FOLDER}/api-key")).unwrap();
        Self {
            child,
            address,
            key: key.trim().to_owned(),
        }
    }

    /// Resident memory at its highest, in MiB.
    fn peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmHWM:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            >> 10
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its private servers stop with it.
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let _ = self.child.wait();
    }
}

/// Sends a request over a connection that is kept, and reads the answer. Returns its status.
fn ask(server: &Server, stream: &mut BufReader<TcpStream>, kind: &str, body: &[u8]) -> u16 {
    let key = &server.key;
    let head = format!(
        "POST /api/batches HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: {kind}\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream
        .get_mut()
        .write_all(&[head.as_bytes(), body].concat())
        .unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line).unwrap();
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).unwrap();
    status
}

/// Batches of one document, from `clients` connections. Returns batches a second and the slowest hundredth.
fn one_by_one(server: &Server, seconds: u64, clients: u64) -> (f64, Duration) {
    let until = Instant::now() + Duration::from_secs(seconds);
    let begun = Instant::now();
    let done = AtomicU64::new(0);
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|client| {
                let done = &done;
                scope.spawn(move || {
                    let stream = TcpStream::connect(&server.address).unwrap();
                    stream.set_nodelay(true).unwrap();
                    let mut stream = BufReader::new(stream);
                    let mut times = Vec::new();
                    let mut number = 0;
                    while Instant::now() < until {
                        let body = format!(
                            r#"{{"documents":[{{"id":"a","text":"{client}/{number}: {TEXT}"}}]}}"#
                        );
                        let asked = Instant::now();
                        assert_eq!(
                            ask(server, &mut stream, "application/json", body.as_bytes()),
                            201
                        );
                        times.push(asked.elapsed());
                        done.fetch_add(1, Ordering::Relaxed);
                        number += 1;
                    }
                    times
                })
            })
            .collect();
        clients
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect()
    });
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = done.into_inner() as f64 / begun.elapsed().as_secs_f64();
    times.sort_unstable();
    (rate, times[times.len() * 99 / 100])
}

/// Lines of one body. Returns lines a second.
fn lines(server: &Server, count: u64) -> f64 {
    let body = (0..count).fold(String::new(), |mut body, n| {
        writeln!(body, "{{\"id\":\"{n}\",\"text\":\"{n}: {TEXT}\"}}").unwrap();
        body
    });
    let mut stream = BufReader::new(TcpStream::connect(&server.address).unwrap());
    let begun = Instant::now();
    assert_eq!(
        ask(server, &mut stream, "application/x-ndjson", body.as_bytes()),
        201
    );
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    rate
}

fn main() {
    let mut numbers = std::env::args()
        .skip(1)
        .filter_map(|word| word.parse().ok());
    let seconds = numbers.next().unwrap_or(10);
    let clients = numbers.next().unwrap_or(64);
    let server = Server::start();
    one_by_one(&server, 1, clients);
    let before = server.peak();
    let (rate, slow) = one_by_one(&server, seconds, clients);
    println!(
        "one document a batch, {clients} connections: {rate:.0} a second, p99 {} ms; memory {before} -> {} MiB",
        slow.as_millis(),
        server.peak()
    );
    let before = server.peak();
    let rate = lines(&server, 100_000);
    println!(
        "100,000 lines of one body: {rate:.0} a second; memory {before} -> {} MiB",
        server.peak()
    );
}
