//! Points in time: `jiff::Timestamp` inside, `google.protobuf.Timestamp` on the wire.

use jiff::Timestamp;

/// `google.protobuf.Timestamp`, wire compatible; its own type so that the
/// conversions can live here.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct WireTime {
    /// Seconds since the Unix epoch.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Nanoseconds within the second, 0 to 999,999,999.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// To the wire. Exact: `jiff` carries nanoseconds. Times before 1970 keep
/// `nanos` non-negative, as the protobuf type asks.
pub fn to_wire(at: Timestamp) -> WireTime {
    let nanos = at.as_nanosecond();
    let seconds = nanos.div_euclid(1_000_000_000);
    WireTime {
        // A jiff timestamp is within years -9999 to 9999: its seconds fit i64.
        seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
        nanos: nanos.rem_euclid(1_000_000_000) as i32,
    }
}

/// From the wire; `None` where the value is outside of what `jiff` can hold.
pub fn from_wire(at: WireTime) -> Option<Timestamp> {
    Timestamp::new(at.seconds, at.nanos).ok()
}
