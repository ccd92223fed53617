//! One CNI configuration file (`.conf`, `.conflist`, `.json`), as libcni reads it.

use serde_json::Value;

use super::ipam::{self, Ipam, text};

/// What a configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Config {
    /// Network name.
    pub network: String,
    /// `cniVersion`.
    pub cni_version: String,
    /// Plugin types in chain order.
    pub plugins: Vec<String>,
    /// The primary plugin's `ipam` block.
    pub ipam: Ipam,
    /// Bridge that the primary plugin puts pods on.
    pub bridge: Option<String>,
    /// flannel: its `subnetFile`, where it names one.
    pub subnet_file: Option<String>,
    /// Multus: where the network that pods really get is configured.
    pub delegate: Option<Delegate>,
}

/// What Multus hands the pod's first interface to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Delegate {
    /// `delegates[0]`, written into Multus' own file.
    Inline(Box<Config>),
    /// `clusterNetwork`: a network name, file name or path.
    Named(String),
}

/// Why the runtime could not load a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfigError {
    /// Not JSON, or cut short.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// An empty file.
    #[error("the file is empty")]
    Empty,
    /// JSON, but no object.
    #[error("it is not a JSON object")]
    NotAnObject,
    /// libcni refuses a list without a name.
    #[error("it has no name")]
    NoName,
    /// A list without plugins; perhaps a `.conf` by its content.
    #[error("it has no plugins: a .conflist has a list of them")]
    NoPlugins,
    /// A plugin without a type; perhaps a list in a `.conf` file.
    #[error("a plugin has no type{}", if *.list { "" } else { ": is it a .conflist?" })]
    NoType {
        /// The file was read as a list.
        list: bool,
    },
}

impl ConfigError {
    /// True when the file may be in the middle of being written.
    pub(super) fn is_torn(&self) -> bool {
        match self {
            Self::Json(error) => error.is_eof(),
            Self::Empty => true,
            _ => false,
        }
    }
}

/// Reads a configuration; `list` for a `.conflist`.
pub(super) fn parse(bytes: &[u8], list: bool) -> Result<Config, ConfigError> {
    if bytes.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0) {
        return Err(ConfigError::Empty);
    }
    let value: Value = serde_json::from_slice(bytes)?;
    if !value.is_object() {
        return Err(ConfigError::NotAnObject);
    }
    if list { network_list(&value) } else { network(&value) }
}

fn network_list(value: &Value) -> Result<Config, ConfigError> {
    let name = text(value, "name").ok_or(ConfigError::NoName)?;
    let plugins = value
        .get("plugins")
        .and_then(Value::as_array)
        .filter(|plugins| !plugins.is_empty())
        .ok_or(ConfigError::NoPlugins)?;
    let types = plugins
        .iter()
        .map(|plugin| text(plugin, "type").ok_or(ConfigError::NoType { list: true }))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Config {
        network: name,
        cni_version: text(value, "cniVersion").unwrap_or_default(),
        plugins: types,
        ..primary(&plugins[0])
    })
}

fn network(value: &Value) -> Result<Config, ConfigError> {
    let kind = text(value, "type").ok_or(ConfigError::NoType { list: false })?;
    Ok(Config {
        network: text(value, "name").unwrap_or_default(),
        cni_version: text(value, "cniVersion").unwrap_or_default(),
        plugins: vec![kind],
        ..primary(value)
    })
}

/// What the primary plugin's own block says.
fn primary(plugin: &Value) -> Config {
    let kind = text(plugin, "type").unwrap_or_default();
    let mut config = Config {
        ipam: plugin.get("ipam").map(ipam::parse).unwrap_or_default(),
        ..Config::default()
    };
    match kind.as_str() {
        // The bridge plugin's default name, and what flannel's delegate therefore gets.
        "bridge" => config.bridge = Some(text(plugin, "bridge").unwrap_or_else(|| "cni0".to_owned())),
        "flannel" => {
            let delegate = plugin.get("delegate").unwrap_or(&Value::Null);
            if text(delegate, "type").is_none_or(|kind| kind == "bridge") {
                config.bridge = Some(text(delegate, "bridge").unwrap_or_else(|| "cni0".to_owned()));
            }
            config.subnet_file = text(plugin, "subnetFile");
        }
        "multus" | "multus-shim" => config.delegate = delegate(plugin),
        // kindnet's own plugin has no ipam block: the ranges stand beside its type (older versions name none).
        "cni-kindnet" => config.ipam = ipam::prefixes(plugin.get("ranges").unwrap_or(&Value::Null)),
        _ => {}
    }
    config
}

fn delegate(multus: &Value) -> Option<Delegate> {
    if let Some(name) = text(multus, "clusterNetwork") {
        return Some(Delegate::Named(name));
    }
    let first = multus.get("delegates")?.as_array()?.first()?;
    let config = if first.get("plugins").is_some() {
        network_list(first)
    } else {
        network(first)
    };
    // A delegate that hands on again is none that Multus itself would take.
    let config = config.ok().filter(|config| config.delegate.is_none())?;
    Some(Delegate::Inline(Box::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(text: &str, list: bool) -> (String, bool) {
        let error = parse(text.as_bytes(), list).unwrap_err();
        (error.to_string(), error.is_torn())
    }

    #[test]
    fn a_file_cut_short_may_be_one_being_written() {
        assert_eq!(error("", true), ("the file is empty".into(), true));
        let (text, torn) = error(r#"{"name": "cbr0", "plugins": [{"type": "fla"#, true);
        assert_eq!(text, "EOF while parsing a string at line 1 column 42");
        assert!(torn);
    }

    #[test]
    fn nonsense_is_said_and_is_not_torn() {
        for (text, list, expected) in [
            ("# flannel", true, "expected value at line 1 column 1"),
            ("[1, 2]", true, "it is not a JSON object"),
            (r#"{"plugins": [{"type": "flannel"}]}"#, true, "it has no name"),
            (
                r#"{"name": "x", "plugins": []}"#,
                true,
                "it has no plugins: a .conflist has a list of them",
            ),
            (
                r#"{"name": "x", "type": "bridge"}"#,
                true,
                "it has no plugins: a .conflist has a list of them",
            ),
            (
                r#"{"name": "x", "plugins": [{"kind": 1}]}"#,
                true,
                "a plugin has no type",
            ),
            (
                r#"{"name": "x", "plugins": [{"type": "bridge"}]}"#,
                false,
                "a plugin has no type: is it a .conflist?",
            ),
        ] {
            assert_eq!(error(text, list), (expected.to_owned(), false), "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, list: bool) {
            let _ = parse(&bytes, list);
        }

        #[test]
        fn arbitrary_json_never_panics(
            kind in "(multus|bridge|flannel|ptp|cni-kindnet|)",
            ipam in "(\\{\\}|\\[\\]|7|null|\\{\"type\":\"host-local\",\"ranges\":(7|\\[7\\]|\\[\\[7,\\{\"subnet\":\"[0-9./:]{0,12}\"\\}\\]\\])\\})",
            list: bool,
        ) {
            let plugin = format!(r#"{{"type":"{kind}","ipam":{ipam},"ranges":{ipam},"delegates":[{ipam}],"delegate":{ipam}}}"#);
            let text = if list { format!(r#"{{"name":"n","plugins":[{plugin}]}}"#) } else { plugin };
            let _ = parse(text.as_bytes(), list);
        }
    }
}
