//! The provider `openai`: one exchange with any server that speaks OpenAI's chat completions and embeddings.
//!
//! It sends what it is given and returns what came back, with the status and the pause that the headers ask for;
//! [`verdict`] says what that means. It never retries and never follows a redirect: every request that leaves here
//! was asked for, limited and written down by somebody else. Invariant: the key is in one header of the request and
//! nowhere else.

mod headers;
mod verdict;

use std::{fmt, path::PathBuf, time::Duration};

use async_trait::async_trait;
use reqwest::{
    Certificate, Client, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
    redirect,
};

pub use verdict::verdict;

use super::{CallRequest, Exchange, Operation, Provider, TransportError, Verdict};

/// The header that carries the call's id, so that a server's bill can be joined to the ledger.
const CALL_HEADER: HeaderName = HeaderName::from_static("x-graphmill-call");

/// A text that no log and no `Debug` shows.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How a server is reached. Proxies are those of the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`,
/// `NO_PROXY`), and so are the system's certificates (`SSL_CERT_FILE`, `SSL_CERT_DIR`), next to those of Mozilla.
#[derive(Debug, Clone)]
pub struct OpenAiSettings {
    /// `OPENAI_BASE_URL`: the address below which `chat/completions` is.
    pub base_url: String,
    /// `OPENAI_API_KEY`; local servers want none.
    pub api_key: Option<Secret>,
    /// Headers to send with each request, for gateways.
    pub headers: Vec<(String, Secret)>,
    /// A file of certificates (PEM) to trust as well.
    pub ca_file: Option<PathBuf>,
    /// The longest wait for a connection.
    ///
    /// **Source:** ten seconds are three lost packets and a slow handshake.
    pub connect_timeout: Duration,
    /// The longest that an exchange takes, connecting and reading included.
    ///
    /// **Source:** ten minutes, what OpenAI's own clients wait; a tiny model on a loaded machine took 88 s.
    pub timeout: Duration,
    /// The largest body that is read, in bytes.
    ///
    /// **Source:** 16 MiB are a hundred times the longest answer of any model.
    pub max_body: usize,
}

impl Default for OpenAiSettings {
    fn default() -> Self {
        Self {
            base_url: "https://api.openai.com/v1".to_owned(),
            api_key: None,
            headers: Vec::new(),
            ca_file: None,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(600),
            max_body: 16 << 20,
        }
    }
}

/// Settings that no client can be made of. Trying again does not help.
#[derive(Debug, thiserror::Error)]
pub enum OpenAiError {
    /// The base address is none; it is not shown, for it may hold a password.
    #[error("OPENAI_BASE_URL is no http or https address")]
    BaseUrl,
    /// The key can't stand in a header; it is not shown.
    #[error("OPENAI_API_KEY holds characters that no header can carry")]
    ApiKey,
    /// A header can't be sent; its value is not shown.
    #[error("the header `{0}` can't be sent")]
    Header(String),
    /// The file of certificates can't be read.
    #[error("the certificates of {0} can't be read")]
    CaFile(PathBuf, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// The client can't be made of them.
    #[error("no HTTP client could be made")]
    Client(#[source] reqwest::Error),
}

/// An OpenAI-compatible server.
pub struct OpenAi {
    client: Client,
    base: Url,
    endpoint: String,
    timeout: Duration,
    max_body: usize,
}

/// The headers may hold the key.
impl fmt::Debug for OpenAi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAi")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl OpenAi {
    /// A client for the server of `settings`. Connects to nothing yet.
    ///
    /// # Errors
    /// [`OpenAiError`] names the setting.
    pub fn new(settings: &OpenAiSettings) -> Result<Self, OpenAiError> {
        let base = base(&settings.base_url).ok_or(OpenAiError::BaseUrl)?;
        let mut client = Client::builder()
            .user_agent(concat!("graphmill/", env!("CARGO_PKG_VERSION")))
            .default_headers(default_headers(settings)?)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .connect_timeout(settings.connect_timeout);
        if let Some(file) = &settings.ca_file {
            let unreadable = |source| OpenAiError::CaFile(file.clone(), source);
            let pem = std::fs::read(file).map_err(|error| unreadable(error.into()))?;
            let certificates =
                Certificate::from_pem_bundle(&pem).map_err(|error| unreadable(error.into()))?;
            if certificates.is_empty() {
                return Err(unreadable("there is none in it".into()));
            }
            for certificate in certificates {
                client = client.add_root_certificate(certificate);
            }
        }
        Ok(Self {
            client: client.build().map_err(OpenAiError::Client)?,
            endpoint: shown(&base),
            base,
            timeout: settings.timeout,
            max_body: settings.max_body,
        })
    }

    /// The address of an operation: the base's query, which some gateways want, stays at its end.
    fn address(&self, path: &str) -> Url {
        let mut address = self.base.clone();
        address.set_path(&format!(
            "{}/{path}",
            self.base.path().trim_end_matches('/')
        ));
        address
    }
}

fn base(url: &str) -> Option<Url> {
    let mut url = Url::parse(url.trim()).ok()?;
    url.set_fragment(None);
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

/// The address without what may be secret: user, password and query.
fn shown(base: &Url) -> String {
    let mut shown = base.clone();
    // Neither can fail for an address that has a host.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_query(None);
    shown.as_str().trim_end_matches('/').to_owned()
}

fn default_headers(settings: &OpenAiSettings) -> Result<HeaderMap, OpenAiError> {
    let secret = |text: &str| {
        let mut value = HeaderValue::from_str(text).ok()?;
        value.set_sensitive(true);
        Some(value)
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(Secret(key)) = &settings.api_key {
        let value = secret(&format!("Bearer {}", key.trim())).ok_or(OpenAiError::ApiKey)?;
        headers.insert(AUTHORIZATION, value);
    }
    for (name, Secret(value)) in &settings.headers {
        let refused = || OpenAiError::Header(name.clone());
        let value = secret(value.trim()).ok_or_else(refused)?;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused())?;
        headers.insert(name, value);
    }
    Ok(headers)
}

/// The body is longer than anybody's answer.
#[derive(Debug, thiserror::Error)]
#[error("the body is longer than {0} bytes")]
struct TooLong(usize);

#[async_trait]
impl Provider for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn endpoint(&self) -> &str {
        &self.endpoint
    }

    async fn exchange(&self, id: &str, request: &CallRequest) -> Result<Exchange, TransportError> {
        let id =
            HeaderValue::from_str(id).map_err(|error| TransportError::Connect(error.into()))?;
        let sent = self
            .client
            .post(self.address(request.operation.path()))
            .timeout(self.timeout)
            .header(CALL_HEADER, id)
            .body(request.body.clone())
            .send();
        let mut response = sent.await.map_err(|error| self.failed(error))?;
        let status = response.status().as_u16();
        let retry_after = headers::retry_after(status, response.headers());
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| self.failed(error))? {
            if body.len() + part.len() > self.max_body {
                return Err(TransportError::Broken(TooLong(self.max_body).into()));
            }
            body.extend_from_slice(&part);
        }
        Ok(Exchange {
            status,
            retry_after,
            body,
        })
    }

    fn verdict(&self, operation: Operation, exchange: &Exchange) -> Verdict {
        verdict(operation, exchange)
    }
}

impl OpenAi {
    fn failed(&self, error: reqwest::Error) -> TransportError {
        // The address may hold a password.
        let error = error.without_url();
        // One that can't be built was not sent either.
        if error.is_connect() || error.is_builder() {
            TransportError::Connect(error.into())
        } else if error.is_timeout() {
            TransportError::TimedOut(self.timeout)
        } else {
            TransportError::Broken(error.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(base_url: &str) -> OpenAiSettings {
        OpenAiSettings {
            base_url: base_url.to_owned(),
            api_key: Some(Secret::new("sk-secret")),
            headers: vec![("x-team".to_owned(), Secret::new("secret-team"))],
            ..OpenAiSettings::default()
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let settings = settings("https://me:secret@gateway.example/v1/?key=secret#x");
        let server = OpenAi::new(&settings).unwrap();
        assert_eq!(server.endpoint(), "https://gateway.example/v1");
        let settings = OpenAiSettings {
            base_url: String::new(),
            ..settings
        };
        assert!(!format!("{settings:?} {server:?}").contains("secret"));
        assert_eq!(
            server.address("chat/completions").as_str(),
            "https://me:secret@gateway.example/v1/chat/completions?key=secret"
        );
    }

    #[test]
    fn settings_that_can_not_work_are_named_and_not_shown() {
        for url in ["", "secret", "ftp://secret/v1", "http://", "file:///secret"] {
            let refused = OpenAi::new(&settings(url)).unwrap_err();
            assert!(matches!(refused, OpenAiError::BaseUrl), "{url}: {refused}");
        }
        let mut wrong = settings("http://localhost:1/v1");
        wrong.api_key = Some(Secret::new("sk-\nsecret"));
        let refused = OpenAi::new(&wrong).unwrap_err();
        assert!(matches!(refused, OpenAiError::ApiKey), "{refused}");
        let mut wrong = settings("http://localhost:1/v1");
        wrong.ca_file = Some("/nowhere/ca.pem".into());
        let refused = OpenAi::new(&wrong).unwrap_err();
        assert!(refused.to_string().contains("/nowhere/ca.pem"), "{refused}");
    }
}
