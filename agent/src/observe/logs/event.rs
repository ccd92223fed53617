//! What a line tells, in the words of containerd (1.6 to 2.x), CRI-O and kubelet (from 1.21 on).

use ipnet::IpNet;

use super::entry::Entry;
use super::quoted;

/// Who told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

/// One try to make a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Attempt {
    /// Who tells of it.
    pub(super) by: Teller,
    /// "namespace/name".
    pub(super) pod: String,
    /// What all lines of one try have in common, as far as it goes: containerd names the pod's UID and the number of the
    /// try, CRI-O the call. Empty where the line names none.
    pub(super) mark: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// The runtime was asked for a sandbox.
    Asked { attempt: Attempt },
    /// A pod got no sandbox.
    Failed { attempt: Attempt, text: String },
    /// A pod got its sandbox.
    Succeeded { attempt: Attempt },
    /// The kubelet handed a pod CIDR to the runtime.
    TookOver { before: Vec<IpNet>, new: Vec<IpNet> },
    /// The runtime did not take it.
    Refused { error: String },
}

/// Whether a line may tell something: most do not, and need not be taken apart.
pub(super) fn worth(line: &str) -> bool {
    // "RunPodSandbox for", "CreatePodSandbox…", "Running pod sandbox", "Ran pod sandbox", "pod network sandbox",
    // "sandbox for pod".
    line.contains("odSandbox") || line.contains("andbox") && line.contains("pod") || line.contains("od CIDR")
}

/// What it tells.
pub(super) fn event(entry: &Entry) -> Option<Event> {
    let message = entry.message.as_str();
    if let Some(rest) = message.strip_prefix("RunPodSandbox for ") {
        return containerd(rest, entry);
    }
    if let Some(named) = message.strip_prefix("Running pod sandbox: ") {
        let attempt = crio_attempt(named, entry)?;
        return Some(Event::Asked { attempt });
    }
    if let Some(rest) = message.strip_prefix("Ran pod sandbox ") {
        // "ID with infra container: NAMESPACE/NAME/POD"
        let (_, named) = rest.split_once(" with infra container: ")?;
        let attempt = crio_attempt(named, entry)?;
        return Some(Event::Succeeded { attempt });
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
        _ => crio(message, entry),
    }
}

/// `METADATA`, `METADATA failed, error` and `METADATA returns sandbox id "ID"`.
fn containerd(rest: &str, entry: &Entry) -> Option<Event> {
    if let Some(metadata) = rest.strip_suffix(" failed, error") {
        return Some(Event::Failed {
            attempt: metadata_attempt(metadata)?,
            text: entry.field("error").unwrap_or_default().to_owned(),
        });
    }
    if let Some((metadata, _)) = rest.split_once(" returns sandbox id ") {
        let attempt = metadata_attempt(metadata)?;
        return Some(Event::Succeeded { attempt });
    }
    let attempt = metadata_attempt(rest)?;
    // A line of another end than these, or one that is torn, is no beginning.
    let whole = rest.ends_with(['}', '"']) || attempt.mark.rsplit('/').next().is_some_and(|try_| rest.ends_with(try_));
    whole.then_some(Event::Asked { attempt })
}

/// `&PodSandboxMetadata{Name:p,Uid:u,Namespace:n,Attempt:0,}`, and from containerd 2.2 on `name:"p"  uid:"u"  namespace:"n"`
/// with any number of blanks, and ` attempt:1` where that is not 0.
fn metadata_attempt(text: &str) -> Option<Attempt> {
    let text = text.strip_prefix("&PodSandboxMetadata{").unwrap_or(text);
    let (mut name, mut namespace, mut uid, mut number) = (None, None, "", "0");
    for part in text.split([',', ' ', '{', '}']) {
        let Some((key, value)) = part.split_once(':') else {
            continue;
        };
        let value = value.trim_matches('"');
        match key {
            "Name" | "name" => name = Some(value),
            "Namespace" | "namespace" => namespace = Some(value),
            "Uid" | "uid" => uid = value,
            "Attempt" | "attempt" => number = value,
            _ => {}
        }
    }
    Some(Attempt {
        by: Teller::Containerd,
        pod: pod(namespace?, name?)?,
        mark: format!("{uid}/{number}"),
    })
}

/// "NAMESPACE/NAME/POD", in a line that names the call by `id=`.
fn crio_attempt(named: &str, entry: &Entry) -> Option<Attempt> {
    Some(Attempt {
        by: Teller::Crio,
        pod: named_pod(named.strip_suffix("/POD").unwrap_or(named))?,
        mark: entry.field("id").unwrap_or_default().to_owned(),
    })
}

/// CRI-O hands the error to the kubelet and lets it tell; where an installation logs it all the same (its debug level
/// does), it reads so.
fn crio(message: &str, entry: &Entry) -> Option<Event> {
    let (_, rest) = message.split_once("failed to create pod network sandbox k8s_")?;
    let mut parts = rest.split('_');
    let (name, namespace) = (parts.next()?, parts.next()?);
    Some(Event::Failed {
        attempt: Attempt {
            by: Teller::Crio,
            pod: pod(namespace, name)?,
            mark: entry.field("id").unwrap_or_default().to_owned(),
        },
        text: message.to_owned(),
    })
}

fn kubelet(entry: &Entry, text: &str) -> Option<Event> {
    Some(Event::Failed {
        attempt: Attempt {
            by: Teller::Kubelet,
            pod: named_pod(entry.field("pod")?)?,
            mark: String::new(),
        },
        text: text.to_owned(),
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

    fn attempt(pod: &str, by: Teller, mark: &str) -> Attempt {
        Attempt {
            by,
            pod: pod.into(),
            mark: mark.into(),
        }
    }

    fn failed(attempt: Attempt, text: &str) -> Option<Event> {
        Some(Event::Failed {
            attempt,
            text: text.into(),
        })
    }

    fn by_kubelet(pod: &str, text: &str) -> Option<Event> {
        failed(attempt(pod, Teller::Kubelet, ""), text)
    }

    #[test]
    fn containerd_tells_every_try_in_both_renderings() {
        let text = r#"failed to setup network for sandbox "933206408e296afa": plugin type="bridge" failed (add): no IP addresses available in range set: 10.244.7.1-10.244.7.6"#;
        let escaped = text.replace('"', "\\\"");
        for (metadata, mark) in [
            (
                "&PodSandboxMetadata{Name:p1,Uid:02004f82-b701-403f-92f5-460acca0e747,Namespace:default,Attempt:0,}",
                "02004f82-b701-403f-92f5-460acca0e747/0",
            ),
            (
                r#"name:\"p1\"  uid:\"efa146e2-0e40-4984-a1d0-0f0d745d3440\"  namespace:\"default\""#,
                "efa146e2-0e40-4984-a1d0-0f0d745d3440/0",
            ),
            (
                r#"name:\"p1\" uid:\"efa146e2-0e40-4984-a1d0-0f0d745d3440\" namespace:\"default\" attempt:1"#,
                "efa146e2-0e40-4984-a1d0-0f0d745d3440/1",
            ),
        ] {
            let attempt = attempt("default/p1", Teller::Containerd, mark);
            let time = r#"time="2026-11-25T07:22:03.301841878Z""#;
            let line =
                format!(r#"{time} level=error msg="RunPodSandbox for {metadata} failed, error" error="{escaped}""#);
            assert_eq!(told(&line), failed(attempt.clone(), text), "{metadata}");
            let line = format!(r#"{time} level=info msg="RunPodSandbox for {metadata} returns sandbox id \"9332\"""#);
            let succeeded = Event::Succeeded {
                attempt: attempt.clone(),
            };
            assert_eq!(told(&line), Some(succeeded));
            let line = format!(r#"{time} level=info msg="RunPodSandbox for {metadata}""#);
            assert_eq!(told(&line), Some(Event::Asked { attempt }));
            let line = format!(r#"{time} level=info msg="RunPodSandbox for {metadata} ret"#);
            assert_eq!(told(&line), None, "a torn line is no beginning");
        }
    }

    #[test]
    fn crio_tells_a_beginning_and_a_success_and_sometimes_a_failure() {
        let time = r#"time="2026-06-04 00:28:46.098922418+08:00""#;
        let call = r#"id=b8e28795 name=/runtime.v1.RuntimeService/RunPodSandbox"#;
        let attempt = attempt("default/example-pod-2", Teller::Crio, "b8e28795");
        let line = format!(r#"{time} level=info msg="Running pod sandbox: default/example-pod-2/POD" {call}"#);
        let asked = Event::Asked {
            attempt: attempt.clone(),
        };
        assert_eq!(told(&line), Some(asked));
        let line = format!(
            r#"{time} level=info msg="Ran pod sandbox e24892f993e7 with infra container: default/example-pod-2/POD" {call}"#
        );
        assert_eq!(told(&line), Some(Event::Succeeded { attempt }));
        let text = r#"failed to create pod network sandbox k8s_coredns-565d847f94-klvn6_kube-system_86d1ad84-5581-4164-bb9d-89b3e9a71f25_0(c6ad012ffda7): error adding pod kube-system_coredns-565d847f94-klvn6 to CNI network "cbr0": plugin type="flannel" failed (add): failed to delegate add: failed to set bridge addr: "cni0" already has an IP address different from 10.244.0.1/24"#;
        let line = format!(r#"{time} level=error msg="{}""#, text.replace('"', "\\\""));
        let pod = "kube-system/coredns-565d847f94-klvn6";
        assert_eq!(told(&line), failed(self::attempt(pod, Teller::Crio, ""), text));
    }

    #[test]
    fn kubelet_tells_a_failure_in_three_lines() {
        let head = "E1125 07:22:16.893408      18 ";
        let text = r#"rpc error: code = Unknown desc = failed to setup network for sandbox "d615": error getting ClusterInformation: connection is unauthorized: Unauthorized"#;
        let once = text.replace('"', "\\\"");
        for message in ["Failed to create sandbox for pod", "CreatePodSandbox for pod failed"] {
            let line = format!(r#"{head}kuberuntime_sandbox.go:70] "{message}" err="{once}" pod="default/nginx-1""#);
            assert_eq!(told(&line), by_kubelet("default/nginx-1", text));
        }
        let line = format!(
            r#"{head}pod_workers.go:1338] "Error syncing pod, skipping" err="failed to \"CreatePodSandbox\" for \"nginx-1_default(9cab4463)\" with CreatePodSandboxError: \"Failed to create sandbox for pod \\\"nginx-1_default(9cab4463)\\\": rpc error: code = Unknown\"" pod="default/nginx-1" podUID="9cab4463""#
        );
        let text = r#"Failed to create sandbox for pod "nginx-1_default(9cab4463)": rpc error: code = Unknown"#;
        assert_eq!(told(&line), by_kubelet("default/nginx-1", text));
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
        assert_eq!(told(&line.to_string()), by_kubelet("default/c-n1", text));
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
            message in "(RunPodSandbox for |Running pod sandbox: |Ran pod sandbox |failed to create pod network sandbox k8s_|)\\PC{0,80}( failed, error| returns sandbox id |)",
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
            let pod = |text: &str| metadata_attempt(text).map(|attempt| attempt.pod);
            let old = format!("&PodSandboxMetadata{{Name:{name},Uid:u,Namespace:{namespace},Attempt:0,}}");
            prop_assert_eq!(pod(&old), expected.clone());
            prop_assert_eq!(pod(&format!("name:\"{name}\"  uid:\"u\"  namespace:\"{namespace}\"")), expected);
        }
    }
}
