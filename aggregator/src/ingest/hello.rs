//! The first message of a stream: who reports, and in which words.

use cidrift_proto::{PROTOCOL, v1};

/// Who reports. Every field has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// Node name.
    pub node: String,
    /// Agent instance.
    pub instance: String,
    /// Agent version.
    pub version: String,
}

/// Why an agent is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwelcome {
    /// It speaks another protocol version.
    #[error(
        "agent {agent:?} speaks report protocol {theirs}, this aggregator ({}) speaks {PROTOCOL}: upgrade the older of the two",
        cidrift_proto::version()
    )]
    Protocol {
        /// The agent's.
        theirs: u32,
        /// The agent's version, as far as it can be shown.
        agent: String,
    },
    /// The first message was not Hello.
    #[error("the first message of a report stream must be Hello, this was {0}")]
    NotHello(&'static str),
    /// The node's name is not one.
    #[error("Hello names node {name:?}: {why}")]
    Node {
        /// As sent, at most 64 characters of it.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Instance or version are not plain short text.
    #[error("Hello has a bad {field}: 1 to 64 printable ASCII characters are asked for")]
    Text {
        /// Which.
        field: &'static str,
    },
}

/// Reads the first message.
pub fn greet(message: &v1::AgentMessage) -> Result<Greeting, Unwelcome> {
    use v1::agent_message::Kind;
    let hello = match &message.kind {
        Some(Kind::Hello(hello)) => hello,
        Some(Kind::Snapshot(_)) => return Err(Unwelcome::NotHello("a snapshot chunk")),
        Some(Kind::Delta(_)) => return Err(Unwelcome::NotHello("a delta")),
        Some(Kind::Heartbeat(_)) => return Err(Unwelcome::NotHello("a heartbeat")),
        None => return Err(Unwelcome::NotHello("of no known kind")),
    };
    // First of all: a Hello of another version may mean something else by its other fields.
    if hello.protocol != PROTOCOL {
        return Err(Unwelcome::Protocol {
            theirs: hello.protocol,
            agent: shown(&hello.agent_version),
        });
    }
    if let Some(why) = name_problem(&hello.node) {
        return Err(Unwelcome::Node {
            name: shown(&hello.node),
            why,
        });
    }
    Ok(Greeting {
        node: hello.node.clone(),
        instance: short_text(&hello.instance, "instance")?,
        version: short_text(&hello.agent_version, "agent_version")?,
    })
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

/// A Node's name is a DNS subdomain (RFC 1123), as the API server checks it.
pub(crate) fn name_problem(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("it is empty; set --node-name");
    }
    if name.len() > 253 {
        return Some("a node name has at most 253 characters");
    }
    let label = |label: &str| {
        label
            .bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
            && !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !name.split('.').all(label) {
        return Some("a node name is a lower-case DNS subdomain (letters, digits, '-' and '.')");
    }
    None
}

fn short_text(text: &str, field: &'static str) -> Result<String, Unwelcome> {
    let plain = (1..=64).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic());
    if plain {
        Ok(text.to_owned())
    } else {
        Err(Unwelcome::Text { field })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(node: &str) -> v1::Hello {
        v1::Hello {
            protocol: PROTOCOL,
            node: node.into(),
            agent_version: "0.1.0".into(),
            instance: "5f0c".into(),
        }
    }

    fn greet_with(hello: v1::Hello) -> Result<Greeting, Unwelcome> {
        greet(&v1::AgentMessage {
            kind: Some(v1::agent_message::Kind::Hello(hello)),
        })
    }

    #[test]
    fn a_proper_hello_is_understood() {
        let greeting = greet_with(hello("node-a.example.org")).unwrap();
        assert_eq!(greeting.node, "node-a.example.org");
    }

    #[test]
    fn another_protocol_version_is_answered_with_both_versions() {
        let error = greet_with(v1::Hello {
            protocol: 7,
            ..hello("node-a")
        })
        .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("protocol 7") && text.contains(&format!("speaks {PROTOCOL}")),
            "{text}"
        );
    }

    #[test]
    fn names_that_no_node_can_have_are_refused() {
        let long = "a".repeat(254);
        for name in ["", "Node-A", "-a", "a-", "a..b", ".", "a b", "a/b", "ä", "a\n", &long] {
            let error = greet_with(hello(name)).unwrap_err();
            assert!(matches!(error, Unwelcome::Node { .. }), "{name:?}: {error}");
            assert!(error.to_string().len() < 300);
        }
    }

    #[test]
    fn an_instance_must_be_short_and_printable() {
        for instance in [String::new(), "x".repeat(65), "a b".into()] {
            let bad = v1::Hello {
                instance,
                ..hello("node-a")
            };
            assert_eq!(greet_with(bad), Err(Unwelcome::Text { field: "instance" }));
        }
    }

    #[test]
    fn anything_before_hello_is_refused() {
        let error = greet(&v1::AgentMessage { kind: None }).unwrap_err();
        assert!(error.to_string().contains("must be Hello"));
    }
}
