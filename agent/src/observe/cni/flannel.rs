//! flannel's `subnet.env`: what flanneld last wrote of the subnet it holds.

use std::str::FromStr;

use cidrift_proto::facts::FlannelSubnet;
use ipnet::IpNet;

/// Where flanneld writes it and its CNI plugin looks for it.
pub(super) const SUBNET_FILE: &str = "/run/flannel/subnet.env";

/// Why a `subnet.env` says nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum SubnetError {
    /// The last line names a prefix and does not end: "/2" may be the beginning of "/24".
    #[error("it is cut short after {0:?}")]
    Torn(String),
    /// Neither `FLANNEL_SUBNET` nor `FLANNEL_IPV6_SUBNET`.
    #[error("it names no FLANNEL_SUBNET")]
    NoSubnet,
    /// A value that is not what its key promises.
    #[error("line {line}: {key} is {value:?}")]
    Value {
        /// Counted from 1.
        line: usize,
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
    /// Not text.
    #[error("it is not UTF-8 text")]
    NotText,
}

/// Reads the file. Keys that this build does not know are passed over.
pub(super) fn parse(path: &str, bytes: &[u8]) -> Result<FlannelSubnet, SubnetError> {
    let text = std::str::from_utf8(bytes).map_err(|_| SubnetError::NotText)?;
    let mut env = FlannelSubnet {
        path: path.to_owned(),
        networks: Vec::new(),
        subnets: Vec::new(),
        mtu: 0,
        ipmasq: false,
    };
    for (at, whole) in text.split_inclusive('\n').enumerate() {
        let Some((key, value)) = whole.split_once('=') else {
            continue;
        };
        let (key, value) = (key.trim(), value.trim().trim_matches('"'));
        let bad = || SubnetError::Value {
            line: at + 1,
            key: key.to_owned(),
            value: value.to_owned(),
        };
        if !whole.ends_with('\n') && (key.ends_with("_SUBNET") || key.ends_with("_NETWORK")) {
            return Err(SubnetError::Torn(whole.to_owned()));
        }
        match key {
            "FLANNEL_NETWORK" | "FLANNEL_IPV6_NETWORK" => {
                env.networks.extend(prefixes(value).ok_or_else(bad)?);
            }
            "FLANNEL_SUBNET" | "FLANNEL_IPV6_SUBNET" => env.subnets.extend(prefixes(value).ok_or_else(bad)?),
            "FLANNEL_MTU" => env.mtu = value.parse().map_err(|_| bad())?,
            "FLANNEL_IPMASQ" => env.ipmasq = bool::from_str(value).map_err(|_| bad())?,
            _ => {}
        }
    }
    if env.subnets.is_empty() {
        return Err(SubnetError::NoSubnet);
    }
    Ok(env)
}

/// A comma list of prefixes, host bits cut off: flanneld writes the subnet's first address.
fn prefixes(value: &str) -> Option<Vec<IpNet>> {
    let one = |text: &str| text.trim().parse::<IpNet>().ok().map(|net| net.trunc());
    value.split(',').map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_families_are_read_and_host_bits_cut_off() {
        let text = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n\
            FLANNEL_IPV6_NETWORK=fd00:10:244::/56\nFLANNEL_IPV6_SUBNET=fd00:10:244:1::1/64\n\
            FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
        let env = parse(SUBNET_FILE, text.as_bytes()).unwrap();
        assert_eq!(
            env.subnets,
            ["10.244.1.0/24", "fd00:10:244:1::/64"].map(|t| t.parse::<IpNet>().unwrap())
        );
        assert_eq!(env.networks.len(), 2);
        assert_eq!((env.mtu, env.ipmasq), (1450, true));
    }

    #[test]
    fn a_torn_file_says_nothing() {
        let error = |text: &str| parse(SUBNET_FILE, text.as_bytes()).unwrap_err().to_string();
        assert_eq!(error(""), "it names no FLANNEL_SUBNET");
        assert_eq!(
            error("FLANNEL_NETWORK=10.244.0.0/16\nFLANN"),
            "it names no FLANNEL_SUBNET"
        );
        assert_eq!(
            error("FLANNEL_SUBNET=10.244.\n"),
            "line 1: FLANNEL_SUBNET is \"10.244.\""
        );
    }

    #[test]
    fn a_prefix_length_cut_short_is_not_taken_for_a_shorter_one() {
        let error = parse(SUBNET_FILE, b"FLANNEL_SUBNET=10.244.1.1/2").unwrap_err();
        assert_eq!(
            error.to_string(),
            "it is cut short after \"FLANNEL_SUBNET=10.244.1.1/2\""
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = parse(SUBNET_FILE, &bytes);
        }

        #[test]
        fn arbitrary_values_never_panic(value in "[0-9a-f.:/,]{0,20}") {
            let _ = parse(SUBNET_FILE, format!("FLANNEL_SUBNET={value}\n").as_bytes());
        }
    }
}
