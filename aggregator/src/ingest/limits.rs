//! What one agent, and all of them together, may use.

use std::time::Duration;

/// Bounds on reports. Nearly every one is a flag of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Limits on reports")]
pub struct Limits {
    /// Report streams at a time. The largest clusters known have 15,000 nodes.
    #[arg(long, default_value_t = 20_000, env = "CIDRIFT_MAX_STREAMS")]
    pub max_streams: usize,
    /// Bytes in one message of an agent. Agents keep to a quarter of it.
    #[arg(long, default_value_t = 1 << 20, env = "CIDRIFT_MAX_MESSAGE_BYTES")]
    pub max_message_bytes: usize,
    /// Forwarding entries of one host.
    #[arg(long, default_value_t = 200_000, env = "CIDRIFT_MAX_ENTRIES")]
    pub max_entries: usize,
    /// Chunks in one snapshot: the entries above in chunks of 500, ten times over.
    #[arg(long, default_value_t = 4_000, env = "CIDRIFT_MAX_SNAPSHOT_CHUNKS")]
    pub max_snapshot_chunks: u32,
    /// Bytes in one snapshot: the entries above at some 300 bytes each.
    #[arg(long, default_value_t = 64 << 20, env = "CIDRIFT_MAX_SNAPSHOT_BYTES")]
    pub max_snapshot_bytes: usize,
    /// Claims that a host makes of itself. There are eleven HOST codes, and SAND01.
    #[arg(long, default_value_t = 64, env = "CIDRIFT_MAX_CLAIMS")]
    pub max_claims: usize,
    /// Messages a second that one stream is read at; the agent waits beyond that.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..), env = "CIDRIFT_MAX_MESSAGES_PER_SECOND")]
    pub max_messages_per_second: u32,
    /// Messages refused as malformed before the stream is closed.
    #[arg(long, default_value_t = 3, env = "CIDRIFT_MAX_REFUSALS")]
    pub max_refusals: u32,
    /// How long a stream may take to say Hello. A healthy agent says it with the request.
    #[arg(long, default_value = "10s", value_parser = crate::cli::duration, env = "CIDRIFT_HELLO_TIMEOUT")]
    pub hello_timeout: Duration,
    /// How often an agent is to give a sign of life. Not a flag: a third of the
    /// silence that is reported, so that two may be late or lost.
    #[arg(skip = Duration::from_secs(5))]
    pub heartbeat: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_streams: 20_000,
            max_message_bytes: 1 << 20,
            max_entries: 200_000,
            max_snapshot_chunks: 4_000,
            max_snapshot_bytes: 64 << 20,
            max_claims: 64,
            max_messages_per_second: 2_000,
            max_refusals: 3,
            hello_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(5),
        }
    }
}
