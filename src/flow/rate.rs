//! How often somebody may ask.

/// Requests that an organization may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestRate {
    /// A second, over all replicas; 1 or more.
    pub per_second: u32,
    /// At once, after a pause; 1 or more.
    pub burst: u32,
}
