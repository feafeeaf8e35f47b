//! A process without Redis: its share of the limits, in memory, by the same rules.
//!
//! Knows the settings and what this process itself called, also while Redis was there: so the share of a minute
//! counts what the minute has seen already. Must not know Redis. Invariant: all shares together are no more than
//! the limits, but that a process may always make one call (a minute, and at once).

use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, Instant},
};

use super::{
    Breaker, CallEnd, LONGEST_PAUSE, LimitSettings, LimiterStatus, Look, MEMORY, Settled, Turned,
    WaitReason,
};

/// How often a waiter looks whether its turn has come; nobody calls it.
const LOOK: Duration = Duration::from_millis(20);

/// What a process knows by itself.
pub(super) struct Alone {
    settings: LimitSettings,
    /// The calls of the window: when, which, how many tokens.
    calls: VecDeque<(Instant, String, u64)>,
    flying: HashSet<String>,
    /// Waiters in order, each with the time until which it counts as there.
    line: VecDeque<(String, Instant)>,
    pace: Instant,
    paused_until: Instant,
    throttles: u32,
    failures: u32,
    /// While the breaker is not closed: until when nothing goes through.
    open_until: Option<Instant>,
    probe: Option<String>,
    successes: u32,
    /// Permits that were granted before the breaker opened or closed last; their results are stale.
    stale: HashSet<String>,
}

impl Alone {
    pub(super) fn new(settings: &LimitSettings, now: Instant) -> Self {
        Self {
            settings: *settings,
            calls: VecDeque::new(),
            flying: HashSet::new(),
            line: VecDeque::new(),
            pace: now,
            paused_until: now,
            throttles: 0,
            failures: 0,
            open_until: None,
            probe: None,
            successes: 0,
            stale: HashSet::new(),
        }
    }

    /// Notes a call that Redis has granted.
    pub(super) fn note(&mut self, id: &str, tokens: u64, now: Instant) {
        self.forget(now);
        self.flying.insert(id.to_owned());
        if self.limited() {
            self.calls.push_back((now, id.to_owned(), tokens));
        }
    }

    /// Notes what others have found out of the server: should Redis be lost now, it holds here too.
    pub(super) fn heard(&mut self, look: &Look, now: Instant) {
        match look.reason {
            WaitReason::Paused => self.paused_until = self.paused_until.max(now + look.wait),
            WaitReason::BreakerOpen { failures } => {
                self.failures = failures;
                self.successes = 0;
                self.open_until = Some(now + look.wait);
                self.stale.clone_from(&self.flying);
            }
            WaitReason::Requests
            | WaitReason::Tokens
            | WaitReason::Concurrency
            | WaitReason::Probing { .. }
            | WaitReason::Turn => {}
        }
    }

    /// One look of a waiter.
    pub(super) fn acquire(
        &mut self,
        id: &str,
        ticket: &str,
        tokens: u64,
        left: Duration,
        workers: u32,
        now: Instant,
    ) -> Result<(), Look> {
        self.forget(now);
        if !self.line.iter().any(|(waiter, _)| waiter == ticket) {
            self.line.push_back((ticket.to_owned(), now));
        }
        let ahead = self
            .line
            .iter()
            .take_while(|(waiter, _)| waiter != ticket)
            .filter(|(_, until)| *until > now)
            .count();
        let Some((reason, wait)) = self.obstacle(tokens, ahead, workers, now) else {
            self.line.retain(|(waiter, _)| waiter != ticket);
            self.note(id, tokens, now);
            if let Some(step) = self.step(workers) {
                self.pace = self.pace.max(now) + step;
            }
            if self.open_until.is_some() {
                self.probe = Some(id.to_owned());
            }
            return Ok(());
        };
        let known = matches!(reason, WaitReason::Paused | WaitReason::BreakerOpen { .. });
        let stays = !(left.is_zero() || known && wait > left);
        // Redis may be back before the end of a long wait
        let sleep = if stays { wait.min(LOOK * 25) } else { wait };
        let until = now
            + if stays {
                sleep.min(left) + LOOK * 10
            } else {
                Duration::ZERO
            };
        if let Some(waiter) = self.line.iter_mut().find(|(waiter, _)| waiter == ticket) {
            waiter.1 = until;
        }
        Err(Look {
            reason,
            wait: sleep,
            stays,
            ahead,
        })
    }

    pub(super) fn is_probe(&self, id: &str) -> bool {
        self.probe.as_deref() == Some(id)
    }

    /// Notes how a call ended, whoever granted it; `None` is a permit that was dropped.
    pub(super) fn end(
        &mut self,
        id: &str,
        reserved: u64,
        end: Option<&CallEnd>,
        now: Instant,
    ) -> Settled {
        self.flying.remove(id);
        let stale = self.stale.remove(id);
        let probe = self.probe.as_deref() == Some(id);
        if probe {
            self.probe = None;
        }
        let used = match end {
            Some(CallEnd::Answered { tokens, .. }) => *tokens,
            Some(CallEnd::Unsent) => 0,
            Some(CallEnd::Throttled { .. } | CallEnd::Failed | CallEnd::Refused) | None => reserved,
        };
        if let Some(at) = self.calls.iter().position(|(_, call, _)| call == id) {
            self.calls[at].2 = used;
            if end == Some(&CallEnd::Unsent) {
                self.calls.remove(at);
            }
        }
        let turned = match end {
            Some(CallEnd::Throttled { retry_after }) => {
                let pause = match retry_after.filter(|after| !after.is_zero()) {
                    Some(after) => after.min(LONGEST_PAUSE),
                    // one round of 429s is one step
                    None if self.paused_until > now => Duration::ZERO,
                    None => {
                        self.throttles = (self.throttles + 1).min(7);
                        Duration::from_secs(1 << (self.throttles - 1)).min(Duration::from_secs(60))
                    }
                };
                self.paused_until = self.paused_until.max(now + pause);
                None
            }
            Some(CallEnd::Answered { .. }) => {
                self.throttles = 0;
                self.judge(true, stale, probe, now)
            }
            Some(CallEnd::Refused) => self.judge(true, stale, probe, now),
            Some(CallEnd::Failed) => self.judge(false, stale, probe, now),
            Some(CallEnd::Unsent) | None => None,
        };
        Settled {
            turned,
            paused: self.paused_until.saturating_duration_since(now),
        }
    }

    pub(super) fn status(&mut self, workers: u32, now: Instant) -> LimiterStatus {
        self.forget(now);
        LimiterStatus {
            shared: false,
            breaker: match self.open_until {
                None => Breaker::Closed,
                Some(until) if until > now => Breaker::Open { wait: until - now },
                Some(_) => Breaker::HalfOpen,
            },
            failures: self.failures,
            paused: self.paused_until.saturating_duration_since(now),
            in_flight: self.flying.len(),
            limit: self.concurrency(workers),
            waiting: self.line.iter().filter(|(_, until)| *until > now).count(),
            requests: self.calls.len(),
            tokens: self.calls.iter().map(|(.., tokens)| tokens).sum(),
        }
    }

    /// The breaker's part of an end.
    fn judge(&mut self, good: bool, stale: bool, probe: bool, now: Instant) -> Option<Turned> {
        if self.settings.breaker_failures == 0 || stale {
            return None;
        }
        let wait = self.settings.breaker_open;
        if self.open_until.is_none() {
            self.failures = if good { 0 } else { self.failures + 1 };
            if self.failures >= self.settings.breaker_failures {
                self.open_until = Some(now + self.settings.breaker_open);
                self.successes = 0;
                self.stale.clone_from(&self.flying);
                let failures = self.failures;
                return Some(Turned::Opened { failures, wait });
            }
        } else if probe {
            if good {
                self.successes += 1;
                if self.successes >= self.settings.breaker_successes.max(1) {
                    self.open_until = None;
                    self.failures = 0;
                    self.stale.clone_from(&self.flying);
                    return Some(Turned::Closed);
                }
            } else {
                self.failures += 1;
                self.successes = 0;
                self.open_until = Some(now + wait);
                let failures = self.failures;
                return Some(Turned::Opened { failures, wait });
            }
        }
        None
    }

    /// What stands in the way of the next call, and for how long.
    fn obstacle(
        &self,
        tokens: u64,
        ahead: usize,
        workers: u32,
        now: Instant,
    ) -> Option<(WaitReason, Duration)> {
        let failures = self.failures;
        if let Some(until) = self.open_until.filter(|until| *until > now) {
            return Some((WaitReason::BreakerOpen { failures }, until - now));
        }
        if self.paused_until > now {
            return Some((WaitReason::Paused, self.paused_until - now));
        }
        if self.open_until.is_some() && (self.probe.is_some() || ahead > 0) {
            return Some((WaitReason::Probing { failures }, LOOK));
        }
        // the probe goes beside calls that were in flight when the breaker opened, as in the scripts
        if self.open_until.is_none() && self.flying.len() >= self.concurrency(workers) {
            return Some((WaitReason::Concurrency, LOOK));
        }
        if ahead > 0 {
            return Some((WaitReason::Turn, LOOK));
        }
        if let Some(limit) = self.requests(workers) {
            if let Some(over) = (self.calls.len() + 1).checked_sub(limit).filter(|n| *n > 0) {
                let (at, ..) = self.calls.get(over - 1)?;
                return Some((WaitReason::Requests, *at + self.settings.window() - now));
            }
            if self.pace > now {
                return Some((WaitReason::Requests, self.pace - now));
            }
        }
        if let Some(limit) = self.tokens(workers) {
            let mut spent: u64 = self.calls.iter().map(|(.., tokens)| tokens).sum();
            for (at, _, old) in &self.calls {
                // a call that is larger than the whole limit goes alone
                if spent == 0 || spent + tokens <= limit {
                    break;
                }
                spent -= old;
                if spent == 0 || spent + tokens <= limit {
                    return Some((WaitReason::Tokens, *at + self.settings.window() - now));
                }
            }
        }
        None
    }

    fn forget(&mut self, now: Instant) {
        let window = self.settings.window();
        while self
            .calls
            .front()
            .is_some_and(|(at, ..)| *at + window <= now)
        {
            self.calls.pop_front();
        }
        self.line.retain(|(_, until)| *until + MEMORY > now);
    }

    fn limited(&self) -> bool {
        self.settings.requests_per_minute.is_some() || self.settings.tokens_per_minute.is_some()
    }

    fn concurrency(&self, workers: u32) -> usize {
        (self.settings.concurrency / workers).max(1) as usize
    }

    fn requests(&self, workers: u32) -> Option<usize> {
        let limit = self
            .settings
            .requests_per_minute
            .filter(|limit| *limit > 0)?;
        Some((limit / workers).max(1) as usize)
    }

    fn tokens(&self, workers: u32) -> Option<u64> {
        let limit = self.settings.tokens_per_minute.filter(|limit| *limit > 0)?;
        Some((limit / u64::from(workers)).max(1))
    }

    /// The time between two calls.
    fn step(&self, workers: u32) -> Option<Duration> {
        let requests = u32::try_from(self.requests(workers)?).unwrap_or(u32::MAX);
        Some(self.settings.window() / requests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERED: CallEnd = CallEnd::Answered {
        tokens: 10,
        latency: Duration::from_millis(1),
    };

    fn look(alone: &mut Alone, id: &str, tokens: u64, at: Instant) -> Option<WaitReason> {
        let patience = Duration::from_millis(100);
        let asked = alone.acquire(id, id, tokens, patience, 2, at);
        asked.err().map(|look| look.reason)
    }

    fn settings() -> LimitSettings {
        LimitSettings {
            concurrency: 4,
            breaker_failures: 2,
            ..LimitSettings::default()
        }
    }

    #[test]
    fn a_share_of_the_calls_at_once_in_order() {
        let now = Instant::now();
        let mut alone = Alone::new(&settings(), now);
        assert_eq!(look(&mut alone, "a", 0, now), None);
        assert_eq!(look(&mut alone, "b", 0, now), None);
        assert_eq!(look(&mut alone, "c", 0, now), Some(WaitReason::Concurrency));
        alone.end("a", 0, Some(&ANSWERED), now);
        assert_eq!(look(&mut alone, "d", 0, now), Some(WaitReason::Turn));
        assert_eq!(look(&mut alone, "c", 0, now), None);
        alone.end("b", 0, None, now);
        assert_eq!(look(&mut alone, "d", 0, now), None);
    }

    #[test]
    fn a_share_of_the_minute_at_its_pace() {
        let mut now = Instant::now();
        let limits = LimitSettings {
            requests_per_minute: Some(120),
            ..settings()
        };
        let mut alone = Alone::new(&limits, now);
        let mut granted = Vec::new();
        let end = now + Duration::from_secs(300);
        while now < end {
            let id = format!("{}", granted.len());
            if look(&mut alone, &id, 0, now).is_none() {
                granted.push(now);
                alone.end(&id, 0, Some(&ANSWERED), now);
            }
            now += Duration::from_millis(7);
        }
        let minute = Duration::from_secs(60);
        for at in &granted {
            let most = granted
                .iter()
                .filter(|other| *other >= at && **other < *at + minute)
                .count();
            assert!(most <= 60, "{most}");
        }
        assert!(granted.len() >= 285, "{} of 300", granted.len());
    }

    #[test]
    fn a_share_of_the_tokens_as_they_were_used() {
        let now = Instant::now();
        let limits = LimitSettings {
            tokens_per_minute: Some(200),
            ..settings()
        };
        let mut alone = Alone::new(&limits, now);
        assert_eq!(look(&mut alone, "a", 90, now), None);
        assert_eq!(look(&mut alone, "b", 90, now), Some(WaitReason::Tokens));
        alone.end("a", 90, Some(&ANSWERED), now);
        assert_eq!(look(&mut alone, "b", 90, now), None);
        assert_eq!(look(&mut alone, "c", 900, now), Some(WaitReason::Tokens));
        let later = now + limits.window();
        assert_eq!(look(&mut alone, "c", 900, later), None, "it goes alone");
    }

    #[test]
    fn its_own_breaker() {
        let now = Instant::now();
        let mut alone = Alone::new(&settings(), now);
        alone.note("shared", 0, now);
        for id in ["a", "b"] {
            assert_eq!(look(&mut alone, id, 0, now), None);
            alone.end(id, 0, Some(&CallEnd::Failed), now);
        }
        let open = Some(WaitReason::BreakerOpen { failures: 2 });
        let probing = Some(WaitReason::Probing { failures: 2 });
        assert_eq!(look(&mut alone, "c", 0, now), open);
        alone.end("shared", 0, Some(&ANSWERED), now);
        let later = now + settings().breaker_open;
        assert_eq!(look(&mut alone, "c", 0, later), None);
        assert_eq!(look(&mut alone, "d", 0, later), probing);
        alone.end("c", 0, Some(&ANSWERED), later);
        assert_eq!(look(&mut alone, "d", 0, later), None);
        assert_eq!(look(&mut alone, "e", 0, later), probing);
        alone.end("d", 0, Some(&ANSWERED), later);
        assert_eq!(look(&mut alone, "e", 0, later), None);
        assert_eq!(alone.status(2, later).breaker, Breaker::Closed);
    }

    #[test]
    fn a_round_of_429s_is_one_step_of_the_pause() {
        let now = Instant::now();
        let mut alone = Alone::new(&settings(), now);
        let silent = CallEnd::Throttled { retry_after: None };
        for id in ["a", "b", "c"] {
            alone.end(id, 0, Some(&silent), now);
        }
        assert_eq!(alone.status(2, now).paused, Duration::from_secs(1));
        let later = now + Duration::from_secs(1);
        alone.end("d", 0, Some(&silent), later);
        assert_eq!(alone.status(2, later).paused, Duration::from_secs(2));
        assert_eq!(look(&mut alone, "e", 0, later), Some(WaitReason::Paused));
    }
}
