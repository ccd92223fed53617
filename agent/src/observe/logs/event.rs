//! What a line tells, in the words of containerd (1.6 to 2.x), CRI-O and kubelet (from 1.21 on).

use ipnet::IpNet;

use super::entry::Entry;
use super::quoted;

/// Who told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Teller {
    Containerd,
    Crio,
    Kubelet,
}

impl Teller {
    /// As evidence names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Crio => "cri-o",
            Self::Kubelet => "kubelet",
        }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// A pod got no sandbox.
    Failed { pod: String, text: String, by: Teller },
    /// A pod got its sandbox.
    Succeeded { pod: String },
    /// The kubelet handed a pod CIDR to the runtime.
    TookOver { before: Vec<IpNet>, new: Vec<IpNet> },
    /// The runtime did not take it.
    Refused { error: String },
}

/// Whether a line may tell something: most do not, and need not be taken apart.
pub(super) fn worth(line: &str) -> bool {
    // "RunPodSandbox for", "CreatePodSandbox…", "Ran pod sandbox", "pod network sandbox", "sandbox for pod".
    line.contains("odSandbox") || line.contains("andbox") && line.contains("pod") || line.contains("od CIDR")
}

/// What it tells.
pub(super) fn event(entry: &Entry) -> Option<Event> {
    let message = entry.message.as_str();
    if let Some(rest) = message.strip_prefix("RunPodSandbox for ") {
        return containerd(rest, entry);
    }
    if let Some(rest) = message.strip_prefix("Ran pod sandbox ") {
        // "ID with infra container: NAMESPACE/NAME/POD"
        let (_, named) = rest.split_once(" with infra container: ")?;
        let pod = named_pod(named.strip_suffix("/POD").unwrap_or(named))?;
        return Some(Event::Succeeded { pod });
    }
    match message {
        "Updating Pod CIDR" => {
            let list = |key| cidrs(entry.field(key).unwrap_or_default());
            let (before, new) = (list("originalPodCIDR")?, list("newPodCIDR")?);
            Some(Event::TookOver { before, new })
        }
        "Error updating pod CIDR" => Some(Event::Refused {
            error: entry.field("err").unwrap_or_default().to_owned(),
        }),
        "Failed to create sandbox for pod" | "CreatePodSandbox for pod failed" => kubelet(entry, entry.field("err")?),
        "Error syncing pod, skipping" => {
            let (_, error) = entry.field("err")?.split_once("with CreatePodSandboxError: ")?;
            let text = quoted::take(error).map_or_else(|| error.to_owned(), |(text, _)| text);
            kubelet(entry, &text)
        }
        _ => crio(message),
    }
}

/// `METADATA failed, error` and `METADATA returns sandbox id "ID"`.
fn containerd(rest: &str, entry: &Entry) -> Option<Event> {
    if let Some(metadata) = rest.strip_suffix(" failed, error") {
        return Some(Event::Failed {
            pod: metadata_pod(metadata)?,
            text: entry.field("error").unwrap_or_default().to_owned(),
            by: Teller::Containerd,
        });
    }
    let (metadata, _) = rest.split_once(" returns sandbox id ")?;
    Some(Event::Succeeded {
        pod: metadata_pod(metadata)?,
    })
}

/// `&PodSandboxMetadata{Name:p,Uid:u,Namespace:n,Attempt:0,}`, and from containerd 2.2 on `name:"p"  uid:"u"  namespace:"n"`
/// with any number of blanks.
fn metadata_pod(text: &str) -> Option<String> {
    let text = text.strip_prefix("&PodSandboxMetadata{").unwrap_or(text);
    let (mut name, mut namespace) = (None, None);
    for part in text.split([',', ' ', '{', '}']) {
        let Some((key, value)) = part.split_once(':') else {
            continue;
        };
        let value = value.trim_matches('"');
        match key {
            "Name" | "name" => name = Some(value),
            "Namespace" | "namespace" => namespace = Some(value),
            _ => {}
        }
    }
    pod(namespace?, name?)
}

/// CRI-O hands the error to the kubelet and lets it tell; where an installation logs it all the same (its debug level
/// does), it reads so.
fn crio(message: &str) -> Option<Event> {
    let (_, rest) = message.split_once("failed to create pod network sandbox k8s_")?;
    let mut parts = rest.split('_');
    let (name, namespace) = (parts.next()?, parts.next()?);
    Some(Event::Failed {
        pod: pod(namespace, name)?,
        text: message.to_owned(),
        by: Teller::Crio,
    })
}

fn kubelet(entry: &Entry, text: &str) -> Option<Event> {
    Some(Event::Failed {
        pod: named_pod(entry.field("pod")?)?,
        text: text.to_owned(),
        by: Teller::Kubelet,
    })
}

/// "namespace/name".
fn named_pod(text: &str) -> Option<String> {
    let (namespace, name) = text.split_once('/')?;
    pod(namespace, name)
}

/// Both are DNS names; anything else is rubbish.
fn pod(namespace: &str, name: &str) -> Option<String> {
    let dns = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
        !text.is_empty() && text.len() <= 253 && text.bytes().all(plain)
    };
    (dns(namespace) && dns(name)).then(|| format!("{namespace}/{name}"))
}

/// "10.244.1.0/24,fd00::/64"; none for an empty text.
fn cidrs(text: &str) -> Option<Vec<IpNet>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;
    use crate::observe::logs::clock::Clock;
    use crate::observe::logs::entry;

    fn told(line: &str) -> Option<Event> {
        let clock = Clock::new("2026-11-25T07:30:00Z".parse().unwrap(), TimeZone::UTC);
        assert!(worth(line), "{line}");
        event(&entry::parse(line, &clock).unwrap())
    }

    fn failed(pod: &str, text: &str, by: Teller) -> Option<Event> {
        Some(Event::Failed {
            pod: pod.into(),
            text: text.into(),
            by,
        })
    }

    fn succeeded(pod: &str) -> Option<Event> {
        Some(Event::Succeeded { pod: pod.into() })
    }

    #[test]
    fn containerd_tells_a_failure_in_both_renderings() {
        let text = r#"failed to setup network for sandbox "933206408e296afa": plugin type="bridge" failed (add): no IP addresses available in range set: 10.244.7.1-10.244.7.6"#;
        let escaped = text.replace('"', "\\\"");
        for metadata in [
            "&PodSandboxMetadata{Name:p1,Uid:02004f82-b701-403f-92f5-460acca0e747,Namespace:default,Attempt:0,}",
            r#"name:\"p1\"  uid:\"efa146e2-0e40-4984-a1d0-0f0d745d3440\"  namespace:\"default\""#,
            r#"name:\"p1\" uid:\"efa146e2-0e40-4984-a1d0-0f0d745d3440\" namespace:\"default\" attempt:1"#,
        ] {
            let time = r#"time="2026-11-25T07:22:03.301841878Z""#;
            let line =
                format!(r#"{time} level=error msg="RunPodSandbox for {metadata} failed, error" error="{escaped}""#);
            assert_eq!(
                told(&line),
                failed("default/p1", text, Teller::Containerd),
                "{metadata}"
            );
            let line = format!(r#"{time} level=info msg="RunPodSandbox for {metadata} returns sandbox id \"9332\"""#);
            assert_eq!(told(&line), succeeded("default/p1"));
            let line = format!(r#"{time} level=info msg="RunPodSandbox for {metadata}""#);
            assert_eq!(told(&line), None, "the try itself tells nothing");
        }
    }

    #[test]
    fn crio_tells_a_success_and_sometimes_a_failure() {
        let time = r#"time="2026-06-04 00:28:46.098922418+08:00""#;
        let line = format!(
            r#"{time} level=info msg="Ran pod sandbox e24892f993e7 with infra container: default/example-pod-2/POD" id=b8e28795 name=/runtime.v1.RuntimeService/RunPodSandbox"#
        );
        assert_eq!(told(&line), succeeded("default/example-pod-2"));
        let text = r#"failed to create pod network sandbox k8s_coredns-565d847f94-klvn6_kube-system_86d1ad84-5581-4164-bb9d-89b3e9a71f25_0(c6ad012ffda7): error adding pod kube-system_coredns-565d847f94-klvn6 to CNI network "cbr0": plugin type="flannel" failed (add): failed to delegate add: failed to set bridge addr: "cni0" already has an IP address different from 10.244.0.1/24"#;
        let line = format!(r#"{time} level=error msg="{}""#, text.replace('"', "\\\""));
        assert_eq!(
            told(&line),
            failed("kube-system/coredns-565d847f94-klvn6", text, Teller::Crio)
        );
    }

    #[test]
    fn kubelet_tells_a_failure_in_three_lines() {
        let head = "E1125 07:22:16.893408      18 ";
        let text = r#"rpc error: code = Unknown desc = failed to setup network for sandbox "d615": error getting ClusterInformation: connection is unauthorized: Unauthorized"#;
        let once = text.replace('"', "\\\"");
        for message in ["Failed to create sandbox for pod", "CreatePodSandbox for pod failed"] {
            let line = format!(r#"{head}kuberuntime_sandbox.go:70] "{message}" err="{once}" pod="default/nginx-1""#);
            assert_eq!(told(&line), failed("default/nginx-1", text, Teller::Kubelet));
        }
        let line = format!(
            r#"{head}pod_workers.go:1338] "Error syncing pod, skipping" err="failed to \"CreatePodSandbox\" for \"nginx-1_default(9cab4463)\" with CreatePodSandboxError: \"Failed to create sandbox for pod \\\"nginx-1_default(9cab4463)\\\": rpc error: code = Unknown\"" pod="default/nginx-1" podUID="9cab4463""#
        );
        let text = r#"Failed to create sandbox for pod "nginx-1_default(9cab4463)": rpc error: code = Unknown"#;
        assert_eq!(told(&line), failed("default/nginx-1", text, Teller::Kubelet));
        let line = format!(
            r#"{head}pod_workers.go:1338] "Error syncing pod, skipping" err="failed to \"StartContainer\" for \"c\" with CrashLoopBackOff: \"x\"" pod="default/nginx-1-sandbox""#
        );
        assert_eq!(told(&line), None, "a container that crashes has its sandbox");
        let line = format!(r#"{head}remote_runtime.go:237] "RunPodSandbox from runtime service failed" err="{once}""#);
        assert_eq!(told(&line), None, "it names no pod");
    }

    #[test]
    fn kubelet_tells_the_same_in_json() {
        let text = r#"rpc error: code = Unknown desc = failed to setup network for sandbox "9c52": plugin type="bridge" failed (add): failed to allocate for range 0: no IP addresses available in range set: 10.244.7.2-10.244.7.2"#;
        let line = serde_json::json!({
            "ts": 1_795_593_318_339.511_2,
            "caller": "kuberuntime/kuberuntime_sandbox.go:70",
            "msg": "Failed to create sandbox for pod",
            "pod": { "name": "c-n1", "namespace": "default" },
            "err": text,
        });
        assert_eq!(told(&line.to_string()), failed("default/c-n1", text, Teller::Kubelet));
        let line = r#"{"ts":1795593318059.1672,"caller":"kubelet/kubelet_network.go:48","msg":"Updating Pod CIDR","v":0,"originalPodCIDR":"","newPodCIDR":"10.244.7.0/24"}"#;
        let new = vec!["10.244.7.0/24".parse().unwrap()];
        assert_eq!(told(line), Some(Event::TookOver { before: vec![], new }));
    }

    #[test]
    fn kubelet_tells_which_cidr_it_took_over() {
        let line = r#"I1125 07:22:16.893408      18 kubelet_network.go:48] "Updating Pod CIDR" originalPodCIDR="" newPodCIDR="10.244.1.0/24,fd00:1::/64""#;
        assert_eq!(
            told(line),
            Some(Event::TookOver {
                before: vec![],
                new: vec!["10.244.1.0/24".parse().unwrap(), "fd00:1::/64".parse().unwrap()],
            })
        );
        let line = r#"E1125 07:22:16.893408      18 kubelet_node_status.go:562] "Error updating pod CIDR" err="failed to update pod CIDR: rpc error: code = Unknown desc = x""#;
        assert_eq!(
            told(line),
            Some(Event::Refused {
                error: "failed to update pod CIDR: rpc error: code = Unknown desc = x".into()
            })
        );
        let torn = r#"I1125 07:22:16.893408      18 kubelet_network.go:48] "Updating Pod CIDR" originalPodCIDR="" newPodCIDR="10.244.1"#;
        assert_eq!(told(torn), None);
    }

    #[test]
    fn names_that_no_pod_can_have_are_rubbish() {
        for name in ["", "UPPER", "a b", "a_b", &"x".repeat(300)] {
            assert_eq!(pod("default", name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_message_is_read_without_a_panic(
            message in "(RunPodSandbox for |Ran pod sandbox |failed to create pod network sandbox k8s_|)\\PC{0,80}( failed, error| returns sandbox id |)",
        ) {
            let clock = Clock::new("2026-11-25T07:30:00Z".parse().unwrap(), TimeZone::UTC);
            let quoted = message.replace('\\', "\\\\").replace('"', "\\\"");
            let line = format!("time=\"2026-11-25T07:22:03Z\" msg=\"{quoted}\"");
            if let Some(entry) = entry::parse(&line, &clock) {
                let _ = event(&entry);
            }
        }

        #[test]
        fn every_pods_name_is_read_back(namespace in "[a-z0-9]{1,20}", name in "[a-z0-9][a-z0-9.-]{0,40}") {
            let expected = Some(format!("{namespace}/{name}"));
            let old = format!("&PodSandboxMetadata{{Name:{name},Uid:u,Namespace:{namespace},Attempt:0,}}");
            prop_assert_eq!(metadata_pod(&old), expected.clone());
            prop_assert_eq!(metadata_pod(&format!("name:\"{name}\"  uid:\"u\"  namespace:\"{namespace}\"")), expected);
        }
    }
}
