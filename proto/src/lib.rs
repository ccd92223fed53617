//! The words that agent, aggregator and operator share.
//!
//! [`v1`] is the wire: what `proto/cidrift/v1/*.proto` describes, generated at
//! build time. Everything else is plain data that the rooms work with, and the
//! conversions between the two. Only the edges (`report`, `ingest`, `query`)
//! touch [`v1`].

pub mod catalogue;
pub mod facts;
pub mod finding;
pub mod landing;
pub mod listen;
pub mod pace;
pub mod prefix;
pub mod signature;
pub mod time;
pub mod tls;
pub mod verdict;
pub mod version;

pub use version::version;

/// The `cidrift.v1` messages, clients and servers.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod v1 {
    tonic::include_proto!("cidrift.v1");
}

/// The report protocol that this build speaks.
pub const PROTOCOL: u32 = 1;

/// A message that does not say what its type promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// An address that is neither 4 nor 16 bytes long.
    #[error("{field}: an address has 4 or 16 bytes, this one has {length}")]
    Address {
        /// The message field.
        field: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// A MAC address that is not 6 bytes long.
    #[error("{field}: a link-layer address has 6 bytes, this one has {length}")]
    LinkAddress {
        /// The message field.
        field: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// A prefix longer than its address.
    #[error("{field}: prefix length {length} is more than {max}")]
    PrefixLength {
        /// The message field.
        field: &'static str,
        /// The length found.
        length: u32,
        /// 32 or 128.
        max: u32,
    },
    /// A prefix with bits set behind its length.
    #[error("{field}: {prefix} has host bits set")]
    HostBits {
        /// The message field.
        field: &'static str,
        /// The prefix as sent.
        prefix: String,
    },
    /// A required field is missing.
    #[error("{0}: missing")]
    Missing(&'static str),
    /// An enum value that this build does not know.
    #[error("{field}: unknown value {value}")]
    UnknownValue {
        /// The message field.
        field: &'static str,
        /// The number sent.
        value: i64,
    },
    /// A finding code that this build's catalogue lacks.
    #[error("unknown finding code {0:?}")]
    UnknownCode(String),
    /// A name that this build does not know.
    #[error("{field}: unknown name {name:?}")]
    UnknownName {
        /// The message field.
        field: &'static str,
        /// The name as sent, shortened.
        name: String,
    },
    /// A number out of its range.
    #[error("{field}: {value} is out of range")]
    Range {
        /// The message field.
        field: &'static str,
        /// The number sent.
        value: i64,
    },
    /// Nested deeper than anything real.
    #[error("{0}: nested too deeply")]
    Depth(&'static str),
}
