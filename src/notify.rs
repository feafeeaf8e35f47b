//! Users' webhooks: where one goes, how it is signed, and one attempt to send it, as the Standard Webhooks say.
//!
//! Knows HTTP and the signature. Must not know what is told, whom it concerns, or when to try again. Invariants: what
//! is sent is signed; a secret is in no log, no `Debug` and no error; a redirect is not followed; nothing of an answer
//! is kept but its status and the wait that it asks for.

mod address;
mod secret;

use std::{fmt, time::Duration};

use reqwest::{Client, header, redirect};

pub use address::{Address, AddressError};
pub use secret::{Secrets, SecretsError};

/// The longest that an attempt takes, connecting included.
///
/// **Source:** Standard Webhooks advise 15 to 30 s.
pub const TIMEOUT: Duration = Duration::from_secs(15);
/// The longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub struct Webhook<'a> {
    /// The same for every attempt: what a receiver knows a repeat by.
    pub id: &'a str,
    /// When this attempt is made, in seconds since 1970: what a receiver knows an old recording by.
    pub timestamp: i64,
    /// JSON.
    pub body: &'a str,
}

/// What a receiver answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// How long it asks to wait, if it does, in whole seconds.
    pub retry_after: Option<Duration>,
}

/// Why there was no answer; trying again may help. The address is not shown.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection.
    #[error("the receiver can't be reached")]
    Connect(#[source] reqwest::Error),
    /// Connected, and no answer in time.
    #[error("the receiver did not answer within 15 seconds")]
    Timeout(#[source] reqwest::Error),
    /// The connection broke, or what came back is not HTTP.
    #[error("the receiver gave no answer")]
    Broken(#[source] reqwest::Error),
}

/// No HTTP client could be made.
#[derive(Debug, thiserror::Error)]
#[error("no HTTP client could be made")]
pub struct MessengerError(#[source] reqwest::Error);

/// Signs and sends. Proxies and certificates are those of the environment, as for every other program.
#[derive(Clone)]
pub struct Messenger {
    client: Client,
    secrets: Secrets,
}

impl fmt::Debug for Messenger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messenger").finish_non_exhaustive()
    }
}

impl Messenger {
    /// One that signs with `secrets`. Connects to nothing yet.
    ///
    /// # Errors
    /// [`MessengerError`]; trying again does not help.
    pub fn new(secrets: Secrets) -> Result<Self, MessengerError> {
        let client = Client::builder()
            .user_agent(concat!("graphmill/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(CONNECT)
            .timeout(TIMEOUT)
            // Batches end too seldom for a connection to be kept; and an answer's body is left unread.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(MessengerError)?;
        Ok(Self { client, secrets })
    }

    /// Makes one attempt.
    ///
    /// # Errors
    /// [`SendError`]: whether the receiver has it nobody knows.
    pub async fn send(&self, to: &Address, webhook: Webhook<'_>) -> Result<Answer, SendError> {
        let request = self
            .client
            .post(to.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header("webhook-id", webhook.id)
            .header("webhook-timestamp", webhook.timestamp)
            .header("webhook-signature", self.secrets.sign(webhook))
            .body(webhook.body.to_owned());
        let answer = request.send().await.map_err(|error| {
            // The address may hold a secret of the receiver's.
            let error = error.without_url();
            if error.is_connect() {
                SendError::Connect(error)
            } else if error.is_timeout() {
                SendError::Timeout(error)
            } else {
                SendError::Broken(error)
            }
        })?;
        let retry_after = answer
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        Ok(Answer {
            status: answer.status().as_u16(),
            retry_after,
        })
    }
}
