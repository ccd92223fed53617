//! What a text names besides what is wrong: the plugin, addresses and ranges.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

/// Addresses that are taken out of one text; real ones name one to three.
const ADDRESSES: usize = 16;

/// Longest name of a plugin: a file name.
const PLUGIN: usize = 255;

/// What a text names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Detail {
    /// The plugin that it blames: the missing one, else the one that failed.
    pub plugin: Option<String>,
    /// Addresses, CIDRs ("10.244.1.0/24") and ranges ("10.244.1.1-10.244.1.254") as written, in the order of the text,
    /// each once. The loopback is left out: that is only where a daemon listens.
    pub addresses: Vec<String>,
}

/// Takes them out.
pub fn detail(text: &str) -> Detail {
    let plugin = ["failed to find plugin ", "plugin type="];
    let plugin = plugin.iter().find_map(|before| name_after(text, before));
    let mut addresses: Vec<String> = Vec::new();
    for word in text.split(|c: char| !(c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '/' | '-'))) {
        if addresses.len() == ADDRESSES {
            break;
        }
        // A sentence's own marks around it. IPv6 may end in "::", with or without a third colon.
        let word = word.trim_matches(|c| matches!(c, '.' | '/' | '-'));
        let bare = word.strip_suffix(':').unwrap_or(word);
        let found = [word, bare].into_iter().find_map(address);
        if let Some(found) = found.filter(|found| !addresses.contains(found)) {
            addresses.push(found);
        }
    }
    Detail { plugin, addresses }
}

/// The name behind these words, in quotes that may be escaped.
fn name_after(text: &str, before: &str) -> Option<String> {
    let (_, rest) = text.split_once(before)?;
    let rest = rest.trim_start_matches(['\\', '"', '\'']);
    let name: String = rest
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        .take(PLUGIN)
        .collect();
    (!name.is_empty()).then_some(name)
}

/// A word that is an address, a CIDR, a range, or an address and a port.
fn address(word: &str) -> Option<String> {
    let worth = |ip: &IpAddr| !ip.is_loopback() && !ip.is_unspecified();
    if let Ok(ip) = word.parse::<IpAddr>() {
        return worth(&ip).then(|| word.to_owned());
    }
    if let Ok(net) = word.parse::<IpNet>() {
        return Some(net)
            .filter(|net| !net.addr().is_loopback())
            .map(|_| word.to_owned());
    }
    if let Ok(socket) = word.parse::<SocketAddr>() {
        return worth(&socket.ip()).then(|| socket.ip().to_string());
    }
    let (first, last) = word.split_once('-')?;
    let range = first.parse::<IpAddr>().is_ok() && last.parse::<IpAddr>().is_ok();
    range.then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> (Option<String>, Vec<String>) {
        let detail = detail(text);
        (detail.plugin, detail.addresses)
    }

    #[test]
    fn plugin_addresses_and_ranges_are_taken_out_of_real_texts() {
        let cases: [(&str, Option<&str>, &[&str]); 9] = [
            (
                r#"plugin type="bridge" failed (add): failed to allocate for range 0: no IP addresses available in range set: 10.244.7.1-10.244.7.6,fd00::1-fd00::f"#,
                Some("bridge"),
                &["10.244.7.1-10.244.7.6", "fd00::1-fd00::f"],
            ),
            (
                r#"plugin type=\"flannel\" failed (add): failed to set bridge addr: \"cni0\" already has an IP address different from 10.244.1.1/24"#,
                Some("flannel"),
                &["10.244.1.1/24"],
            ),
            (
                "failed to request IPv4 addresses: No IPs available in pools: [192.168.0.0/16 10.0.0.0/8]",
                None,
                &["192.168.0.0/16", "10.0.0.0/8"],
            ),
            (
                r#"plugin type="multus" failed (add): failed to find plugin "loopback" in path [/opt/cni/bin]"#,
                Some("loopback"),
                &[],
            ),
            (
                r#"plugin type="calico" name="k8s-pod-network" failed (add): Get "https://10.96.0.1:443/apis": dial tcp 10.96.0.1:443: i/o timeout"#,
                Some("calico"),
                &["10.96.0.1"],
            ),
            ("dial tcp [fd00:10::1]:443: i/o timeout", None, &["fd00:10::1"]),
            ("dial tcp 127.0.0.1:50051: connect: connection refused", None, &[]),
            (
                r#"subnet "10.244.0.0/16" specified in the flannel net config doesn't contain "10.245.1.0/24" PodCIDR of the "n1" node"#,
                None,
                &["10.244.0.0/16", "10.245.1.0/24"],
            ),
            (
                "failed to mark cidr[2001:db8::/64] at idx [0] as occupied: 0a:58:0a:f4:02:04 at 07:22:02.894 v1.2.3.",
                None,
                &["2001:db8::/64"],
            ),
        ];
        for (text, plugin, addresses) in cases {
            assert_eq!(
                of(text),
                (
                    plugin.map(str::to_owned),
                    addresses.iter().map(|a| (*a).to_owned()).collect()
                ),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_few_addresses_that_stand_in_it(text in "\\PC{0,300}") {
            let detail = detail(&text);
            prop_assert!(detail.addresses.len() <= ADDRESSES);
        }

        #[test]
        fn an_address_is_found_whatever_stands_around_it(
            ip in any::<std::net::IpAddr>().prop_filter("named", |ip| !ip.is_loopback() && !ip.is_unspecified()),
            before in "[g-z ]{0,9} ",
            behind in "( [g-z]{0,9}|, [g-z]{0,9}|\\])",
        ) {
            let found = detail(&format!("{before}{ip}{behind}"));
            prop_assert_eq!(found.addresses, vec![ip.to_string()]);
        }
    }
}
