//! A user's server: it writes down what it is told, and answers what a test wants.

use std::{collections::VecDeque, sync::Arc, sync::Mutex, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use tokio::{net::TcpListener, sync::mpsc, time::timeout};

/// Now, in seconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "a receiver has a clock of its own"
)]
pub(super) fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

/// What it answers to one request; 204 to those that nothing was said about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Says {
    Status(u16),
    /// 503, and to come again in an hour.
    Busy,
    Redirect(&'static str),
    /// No answer, ever.
    Nothing,
}

/// One request.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) target: String,
    pub(super) id: String,
    timestamp: String,
    signature: String,
    pub(super) body: String,
}

impl Heard {
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(super) fn headers(&self) -> serde_json::Value {
        serde_json::json!({
            "webhook-id": self.id,
            "webhook-timestamp": self.timestamp,
            "webhook-signature": self.signature,
        })
    }

    /// As a receiver checks it, who shares the secret and nothing else.
    #[track_caller]
    pub(super) fn assert_signed(&self, secret: &str) {
        let key = STANDARD
            .decode(secret.strip_prefix("whsec_").unwrap())
            .unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{}.{}.{}", self.id, self.timestamp, self.body).as_bytes());
        let wanted = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        assert_eq!(self.signature, wanted);
        let sent: i64 = self.timestamp.parse().unwrap();
        let age = now() - sent;
        assert!((-5..60).contains(&age), "sent {age} s ago");
    }
}

type Shared = Arc<(Mutex<VecDeque<Says>>, mpsc::UnboundedSender<Heard>)>;

/// The server, for as long as the test's runtime lives.
pub(super) struct Receiver {
    base: String,
    heard: mpsc::UnboundedReceiver<Heard>,
}

impl Receiver {
    pub(super) async fn start(says: &[Says]) -> Self {
        let (sender, heard) = mpsc::unbounded_channel();
        let shared = Arc::new((Mutex::new(says.iter().copied().collect()), sender));
        let router = Router::new().fallback(answer).with_state(shared);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { base, heard }
    }

    pub(super) fn address(&self, target: &str) -> String {
        format!("{}{target}", self.base)
    }

    /// The next request.
    pub(super) async fn hear(&mut self) -> Heard {
        let heard = timeout(Duration::from_secs(30), self.heard.recv());
        heard.await.expect("a webhook comes").unwrap()
    }

    /// Nothing came that was not looked at.
    #[track_caller]
    pub(super) fn assert_silent(&mut self) {
        if let Ok(heard) = self.heard.try_recv() {
            panic!("told once more: {heard:?}");
        }
    }
}

async fn answer(
    State(shared): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/json");
    let heard = Heard {
        target: uri.to_string(),
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
        body,
    };
    let says = shared.0.lock().unwrap().pop_front();
    let _ = shared.1.send(heard);
    match says {
        None => StatusCode::NO_CONTENT.into_response(),
        Some(Says::Status(status)) => StatusCode::from_u16(status).unwrap().into_response(),
        Some(Says::Busy) => (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::RETRY_AFTER, "3600")],
        )
            .into_response(),
        Some(Says::Redirect(to)) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
        Some(Says::Nothing) => std::future::pending().await,
    }
}
