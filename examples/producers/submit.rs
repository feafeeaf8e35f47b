//! A producer in Rust: submits text files as one batch, and waits until they are durable.
//!
//! ```sh
//! export GRAPHMILL_API_KEY=gm_… REDIS_URL=redis://127.0.0.1:6379
//! cargo run -p graphmill-jobs --features enqueue --example submit -- papers one.txt two.txt
//! ```
//!
//! Run it again, also after it was killed: its key is the batch's name, so nothing is submitted twice.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program of its own, with an environment and an output"
)]

use std::{error::Error, fs, path::Path, process::ExitCode, time::Duration};

use graphmill_jobs::{Client, Document, Receipt, Submission};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().ok_or("usage: submit NAME FILE…")?;
    let mut documents = Vec::new();
    for file in arguments {
        let id = Path::new(&file)
            .file_name()
            .ok_or("not a file")?
            .to_string_lossy();
        documents.push(Document::new(id, fs::read_to_string(&file)?).source_uri(&file));
    }

    let redis = std::env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let client = Client::connect(&redis, std::env::var("GRAPHMILL_API_KEY")?).await?;
    let batch = Submission::new(documents).name(&name);
    let ticket = client.submit(&name, batch).await?;
    match client.receipt(&ticket, Duration::from_secs(60)).await? {
        Some(Receipt::Accepted {
            batch_id, refused, ..
        }) => {
            println!("{batch_id}");
            for document in refused {
                println!("refused {}: {}", document.document, document.message);
            }
            Ok(ExitCode::SUCCESS)
        }
        Some(Receipt::Refused { message, .. }) => Err(message.into()),
        Some(_) => Err("an answer that this version does not know".into()),
        None => Err("no receipt yet: is a `graphmill worker` running? Run this again".into()),
    }
}
