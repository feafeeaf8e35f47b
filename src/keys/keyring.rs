//! Checking keys, and remembering for a moment what was looked up.
//!
//! Invariants: what was looked up is believed for [`FRESH`] and no longer; a key that ends meanwhile is refused at its
//! end. Whoever has not shown the secret learns nothing of a key: not that it is there, was revoked or has expired.
//! The memory is bounded, whatever prefixes strangers make up, and so is what they can ask of Postgres at a time.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use graphmill_jobs::OrganizationId;
use tokio::sync::{OnceCell, Semaphore};

use super::{Key, StreamToken};
use crate::{
    flow::RequestRate,
    store::{self, FoundApiKey, Scope, Store, StoreError},
};

/// How long what was looked up is believed: so long does a key work on after it was revoked, and so long does it take
/// until a new limit holds.
pub const FRESH: Duration = Duration::from_secs(5);
/// Keys that are remembered at most; made-up ones are among them.
const REMEMBERED: usize = 10_000;
/// Looks at Postgres at the same time, so that made-up keys can't take all connections from those who have one.
const LOOKS: usize = 4;

/// Who has a key.
#[derive(Debug, Clone)]
pub struct Holder {
    /// For whom it speaks.
    pub organization: OrganizationId,
    /// What it may do.
    pub scope: Scope,
    /// How many requests its organization may make.
    pub rate: Option<RequestRate>,
    prefix: Arc<str>,
}

/// Why nobody is let in.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It was cut off or mistyped, or is something else.
    #[error("this is not a whole API key: it was cut off or mistyped")]
    Malformed,
    /// There is no such key, or it was revoked.
    #[error("this API key is unknown, or was revoked")]
    Unknown,
    /// It has ended.
    #[error("this API key has expired")]
    Expired,
    /// The token has ended, is for another stream, or was made up.
    #[error("this token has expired, or is not for this stream: ask for a new one")]
    Token,
    /// Nobody can say. Trying again may help.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was looked up of a prefix.
struct Known {
    key: FoundApiKey,
    hash: [u8; 32],
    ends: Option<Instant>,
    /// When it was read.
    at: Instant,
    /// Its use was noted, or need not be.
    noted: AtomicBool,
}

impl Known {
    fn has_ended(&self) -> bool {
        self.ends.is_some_and(|ends| ends <= Instant::now())
    }

    /// The database's clock, by which tokens end on every replica.
    fn now_ms(&self) -> u64 {
        let passed = u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.key.now_ms.unsigned_abs().saturating_add(passed)
    }
}

/// A look that several may wait for.
struct Look {
    begun: Instant,
    found: Arc<OnceCell<Option<Arc<Known>>>>,
}

/// Checks keys; cheap to clone.
#[derive(Clone)]
pub struct Keyring(Arc<Ring>);

struct Ring {
    store: Store,
    looks: Mutex<HashMap<Arc<str>, Look>>,
    permits: Semaphore,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring(…)")
    }
}

impl Keyring {
    /// Checks the keys in `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self(Arc::new(Ring {
            store,
            looks: Mutex::default(),
            permits: Semaphore::new(LOOKS),
        }))
    }

    /// Who has the key that is shown.
    ///
    /// # Errors
    /// [`Refusal`]; trying again may help if Postgres did not do its part.
    pub async fn admit(&self, shown: &str) -> Result<Holder, Refusal> {
        let key = Key::parse(shown).ok_or(Refusal::Malformed)?;
        let known = self.known(key.prefix()).await?;
        // Nobody's secret has this hash: an unknown prefix takes as long as a known one.
        let hash = known.as_ref().map_or(&[0; 32], |known| &known.hash);
        let is_it = key.is(hash);
        match known.filter(|_| is_it) {
            Some(known) if !known.key.revoked => {
                if known.has_ended() {
                    return Err(Refusal::Expired);
                }
                self.note(&known);
                Ok(holder(key.prefix(), &known))
            }
            Some(_) | None => Err(Refusal::Unknown),
        }
    }

    /// Over once a key lets its holder in no more; a stream would outlive it by hours.
    pub async fn gone(&self, holder: &Holder) {
        while self.admits(holder).await {
            tokio::time::sleep(FRESH).await;
        }
    }

    /// Whether a key still lets its holder in; as it was, if nobody can say.
    pub async fn admits(&self, holder: &Holder) -> bool {
        match self.known(&holder.prefix).await {
            Ok(Some(known)) => !known.key.revoked && !known.has_ended(),
            Ok(None) => false,
            Err(_) => true,
        }
    }

    /// A token with which whoever can send no header connects to the stream at `path`, and when it ends in milliseconds
    /// since 1970.
    ///
    /// # Errors
    /// [`Refusal`]; trying again may help if Postgres did not do its part.
    pub async fn stream_token(
        &self,
        holder: &Holder,
        path: &str,
    ) -> Result<(StreamToken, u64), Refusal> {
        let known = self.known(&holder.prefix).await?.ok_or(Refusal::Unknown)?;
        Ok(StreamToken::sign(
            &holder.prefix,
            &known.hash,
            known.now_ms(),
            path,
        ))
    }

    /// Who was given the token that is shown, for the stream at `path`.
    ///
    /// # Errors
    /// [`Refusal`]; trying again may help if Postgres did not do its part.
    pub async fn admit_to_stream(&self, shown: &str, path: &str) -> Result<Holder, Refusal> {
        let token = StreamToken::parse(shown).ok_or(Refusal::Token)?;
        let known = self.known(token.prefix()).await?;
        let hash = known.as_ref().map_or(&[0; 32], |known| &known.hash);
        let is_signed = token.is_signed(hash, path);
        match known.filter(|_| is_signed) {
            Some(known)
                if token.is_fresh(known.now_ms()) && !known.key.revoked && !known.has_ended() =>
            {
                Ok(holder(token.prefix(), &known))
            }
            Some(_) | None => Err(Refusal::Token),
        }
    }

    /// What is known of a prefix. Who asks for it at the same time waits for the same look.
    async fn known(&self, prefix: &str) -> Result<Option<Arc<Known>>, StoreError> {
        let look = self.look(prefix);
        let found = look.get_or_try_init(|| async {
            let permit = self.0.permits.acquire().await;
            let mut connection = self.0.store.outside().await?;
            let found = store::api_key_by_prefix(&mut connection, prefix).await?;
            drop(permit);
            Ok(found.and_then(|key| {
                let at = Instant::now();
                let left = key.expires_in.map(|left| left.clamp(0.0, 1e9));
                Some(Arc::new(Known {
                    hash: key.hash[..].try_into().ok()?,
                    ends: left.map(|left| at + Duration::from_secs_f64(left)),
                    noted: AtomicBool::new(!key.idle),
                    at,
                    key,
                }))
            }))
        });
        found.await.cloned()
    }

    fn look(&self, prefix: &str) -> Arc<OnceCell<Option<Arc<Known>>>> {
        let mut looks = self.0.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let is_fresh = |look: &Look| now.duration_since(look.begun) < FRESH;
        if let Some(look) = looks.get(prefix).filter(|look| is_fresh(look)) {
            return Arc::clone(&look.found);
        }
        if looks.len() >= REMEMBERED {
            looks.retain(|_, look| is_fresh(look));
        }
        if looks.len() >= REMEMBERED {
            looks.clear();
        }
        let found = Arc::default();
        looks.insert(
            prefix.into(),
            Look {
                begun: now,
                found: Arc::clone(&found),
            },
        );
        found
    }

    /// Writes down that the key is in use, now and then, and lets nobody wait for it.
    fn note(&self, known: &Arc<Known>) {
        if known.noted.swap(true, Ordering::Relaxed) {
            return;
        }
        let (ring, known) = (Arc::clone(&self.0), Arc::clone(known));
        tokio::spawn(async move {
            let FoundApiKey {
                id, organization, ..
            } = known.key;
            let noted = async {
                let mut transaction = ring.store.app(organization).await?;
                store::touch_api_key(&mut transaction, organization, id).await?;
                transaction.commit().await.map_err(StoreError::from)
            };
            if let Err(error) = noted.await {
                tracing::debug!(%error, "the use of a key was not noted");
            }
        });
    }
}

fn holder(prefix: &str, known: &Known) -> Holder {
    Holder {
        organization: known.key.organization,
        scope: known.key.scope,
        rate: known.key.rate,
        prefix: prefix.into(),
    }
}
