//! Where metrics are scraped.

use std::net::SocketAddr;

use clap::Args;

/// Where metrics are scraped.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Metrics")]
pub struct MetricsArgs {
    /// Where to answer Prometheus at `/metrics`; nowhere without it. Nobody is asked for a key there: a loopback
    /// address, or one that only Prometheus reaches.
    #[arg(
        id = "metrics_address",
        long = "metrics",
        env = "GRAPHMILL_METRICS",
        value_name = "ADDRESS"
    )]
    pub address: Option<SocketAddr>,
}
