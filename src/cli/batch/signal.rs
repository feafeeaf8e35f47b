//! `graphmill batch cancel|pause|resume|retry`: a signal, and what came of it in words.

use super::find;
use crate::{
    cli::{error::CliError, output, session::Session},
    flow::Signal,
    workflow::{self, BatchSignalled},
};

/// Signals a batch, and says what came of it.
pub(super) async fn ask(session: &Session, batch: &str, signal: Signal) -> Result<(), CliError> {
    let id = find(session, batch).await?;
    let done = workflow::signal_batch(&session.store, session.organization, id, signal).await?;
    output::note(&match (signal, done) {
        (_, BatchSignalled::Retrying(documents)) => {
            let documents = match documents {
                0 => "what there is is".to_owned(),
                1 => "1 document is".to_owned(),
                many => format!("{many} documents are"),
            };
            format!("{documents} tried again, by any worker or `graphmill run --resume {batch}`")
        }
        (Signal::Retry, _) => "nothing to retry".to_owned(),
        (_, BatchSignalled::Ended) => {
            "it has ended: `graphmill batch retry` tries again what failed".to_owned()
        }
        (Signal::Cancel, BatchSignalled::Done) => "stopping: what is in work ends".to_owned(),
        (Signal::Cancel, BatchSignalled::Nothing) => "it is stopping already".to_owned(),
        (Signal::Pause, BatchSignalled::Done) => {
            "paused: what is in work stops at its next unit".to_owned()
        }
        (Signal::Pause, BatchSignalled::Nothing) => "it is paused already".to_owned(),
        (Signal::Resume, BatchSignalled::Done) => "it goes on".to_owned(),
        (Signal::Resume, BatchSignalled::Nothing) => "it is not paused".to_owned(),
    });
    Ok(())
}
