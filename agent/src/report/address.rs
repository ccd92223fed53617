//! An aggregator's address, as people and the aggregator itself write it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use tonic::transport::Uri;

/// The gRPC port where none is named.
const PORT: u16 = 7440;

/// An address to dial, with TLS (`https`) or without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// With TLS.
    pub(super) tls: bool,
    /// HOST:PORT.
    pub(super) authority: String,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?} {why}; an URL such as https://10.0.0.1:7440 is asked for");
        let uri: Uri = text.parse().map_err(|_| wrong("is no URL"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return Err(wrong("has another scheme than https or http")),
            None => return Err(wrong("has no scheme")),
        };
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| wrong("names no host"))?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("has a path"));
        }
        // A port that is none is passed over by the parser: nothing may be dialled that was not said.
        let said = uri.authority().map_or("", |authority| authority.as_str());
        let port = uri.port_u16();
        if said != port.map_or(host.to_owned(), |port| format!("{host}:{port}")) {
            return Err(wrong("has something else than HOST:PORT"));
        }
        Ok(Self {
            tls,
            authority: format!("{host}:{}", port.unwrap_or(PORT)),
        })
    }
}

impl Address {
    /// With TLS.
    pub fn secure(address: SocketAddr) -> Self {
        Self {
            tls: true,
            authority: address.to_string(),
        }
    }

    /// True where what is said does not leave this host, or is encrypted.
    pub fn is_private(&self) -> bool {
        let host = self.authority.rsplit_once(':').map_or("", |(host, _)| host);
        let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
        self.tls || host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_url_with_a_scheme_and_perhaps_a_port() {
        for (text, shown) in [
            ("https://10.0.0.1:7440", "https://10.0.0.1:7440"),
            ("http://127.0.0.1:1/", "http://127.0.0.1:1"),
            ("https://[fd00::1]", "https://[fd00::1]:7440"),
            (
                "https://cidrift-aggregator.cidrift",
                "https://cidrift-aggregator.cidrift:7440",
            ),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
        for wrong in [
            "10.0.0.1:7440",
            "tcp://10.0.0.1:1",
            "https://",
            "https://h/p",
            "",
            "https://h:99999",
            "https://user@h:1",
        ] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong:?}");
        }
    }
}
