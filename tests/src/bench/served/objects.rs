//! Objects of a large cluster as kube-apiserver writes them, in the size that real ones have: most of it is what
//! nobody here reads.

use std::fmt::Write;
use std::net::Ipv4Addr;

/// Pods of each Node.
pub(in crate::bench) const PODS_EACH: u32 = 30;

/// Node CIDRs are /24s from here on.
const POOL: u32 = u32::from_be_bytes([10, 0, 0, 0]);
const UNDERLAY: u32 = u32::from_be_bytes([172, 16, 0, 10]);

/// What the last Pod's `--cluster-cidr` does not hold: the last Node's CIDR.
pub(in crate::bench) const OUTSIDE: &str = "10.192.0.0/24";

/// A Node's name.
pub(in crate::bench) fn name(node: u32) -> String {
    format!("node-{node:05}.eu-central-1.compute.internal")
}

fn uid(kind: u32, number: u32) -> String {
    format!("{kind:08x}-{:04x}-4b1d-9c55-{number:012x}", number % 0xffff)
}

/// `managedFields` of one manager, which an API server adds to everything.
fn managed(manager: &str, fields: usize) -> String {
    let mut set = String::new();
    for at in 0..fields {
        // Writing into a String cannot fail.
        let _ = write!(
            set,
            r#","f:field{at:03}":{{".":{{}},"f:lastProbeTime":{{}},"f:type":{{}}}}"#
        );
    }
    let set = set.trim_start_matches(',');
    format!(
        r#"{{"manager":"{manager}","operation":"Update","apiVersion":"v1","time":"2026-11-01T08:00:00Z","fieldsType":"FieldsV1","fieldsV1":{{"f:status":{{{set}}}}}}}"#
    )
}

/// A Node; the last of `count` has a CIDR outside the pool. Without `cidr` it waits for one.
pub(in crate::bench) fn node(node: u32, count: u32, version: u64, cidr: bool) -> String {
    let name = name(node);
    let uid = uid(1, node);
    let address = Ipv4Addr::from(UNDERLAY + node);
    let prefix = match node + 1 == count {
        true => OUTSIDE.to_owned(),
        false => format!("{}/24", Ipv4Addr::from(POOL + (node << 8))),
    };
    let spec = match cidr {
        true => format!(r#""podCIDR":"{prefix}","podCIDRs":["{prefix}"],"#),
        false => String::new(),
    };
    let allocator = r#"{"manager":"kube-controller-manager","operation":"Update","apiVersion":"v1","time":"2026-11-01T08:00:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:podCIDR":{},"f:podCIDRs":{".":{},"v:\"10.0.0.0/24\"":{}}}}}"#;
    let kubelet = managed("kubelet", 12);
    let images: Vec<String> = (0..20)
        .map(|at| {
            format!(
                r#"{{"names":["registry.example/team/app-{at}@sha256:{:064x}","registry.example/team/app-{at}:1.{at}"],"sizeBytes":48213991}}"#,
                u64::from(node) * 31 + at
            )
        })
        .collect();
    let images = images.join(",");
    format!(
        r#"{{"kind":"Node","apiVersion":"v1","metadata":{{"name":"{name}","uid":"{uid}","resourceVersion":"{version}","creationTimestamp":"2026-11-01T08:00:00Z","labels":{{"beta.kubernetes.io/arch":"amd64","beta.kubernetes.io/os":"linux","kubernetes.io/hostname":"{name}","kubernetes.io/os":"linux","topology.kubernetes.io/zone":"eu-central-1a","node.kubernetes.io/instance-type":"m6i.4xlarge"}},"annotations":{{"node.alpha.kubernetes.io/ttl":"300","volumes.kubernetes.io/controller-managed-attach-detach":"true"}},"managedFields":[{allocator},{kubelet}]}},"spec":{{{spec}"providerID":"cloud:///eu-central-1a/i-{node:017x}"}},"status":{{"capacity":{{"cpu":"16","memory":"64Gi","pods":"110"}},"allocatable":{{"cpu":"15890m","memory":"61Gi","pods":"110"}},"conditions":[{{"type":"MemoryPressure","status":"False","reason":"KubeletHasSufficientMemory","message":"kubelet has sufficient memory available","lastHeartbeatTime":"2026-11-01T08:00:00Z","lastTransitionTime":"2026-11-01T08:00:00Z"}},{{"type":"Ready","status":"True","reason":"KubeletReady","message":"kubelet is posting ready status","lastHeartbeatTime":"2026-11-01T08:00:00Z","lastTransitionTime":"2026-11-01T08:00:00Z"}}],"addresses":[{{"type":"InternalIP","address":"{address}"}},{{"type":"Hostname","address":"{name}"}}],"nodeInfo":{{"kernelVersion":"6.18.44","osImage":"Linux","containerRuntimeVersion":"containerd://2.4.2","kubeletVersion":"v1.36.3","operatingSystem":"linux","architecture":"amd64"}},"images":[{images}]}}}}"#
    )
}

/// A Pod that runs on a Node.
pub(in crate::bench) fn pod(number: u32) -> String {
    let (node, at) = (number / PODS_EACH, number % PODS_EACH);
    let host = name(node);
    let name = format!("checkout-backend-7d9f8c6b5-{number:06}");
    let namespace = format!("team-{:03}", number % 200);
    let uid = uid(2, number);
    let address = Ipv4Addr::from(POOL + (node << 8) + at + 2);
    let underlay = Ipv4Addr::from(UNDERLAY + node);
    let owners = format!(
        r#"[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"checkout-backend-7d9f8c6b5","uid":"{uid}","controller":true,"blockOwnerDeletion":true}}]"#
    );
    let fields = [managed("kube-controller-manager", 14), managed("kubelet", 16)].join(",");
    let environment: Vec<String> = (0..12)
        .map(|at| format!(r#"{{"name":"CHECKOUT_SETTING_{at:02}","value":"some-value-of-usual-length-{number}"}}"#))
        .collect();
    let environment = environment.join(",");
    let conditions: Vec<String> = [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ]
    .iter()
    .map(|kind| {
        format!(
            r#"{{"type":"{kind}","status":"True","lastProbeTime":null,"lastTransitionTime":"2026-11-20T08:00:00Z"}}"#
        )
    })
    .collect();
    let conditions = conditions.join(",");
    format!(
        r#"{{"metadata":{{"name":"{name}","generateName":"checkout-backend-7d9f8c6b5-","namespace":"{namespace}","uid":"{uid}","resourceVersion":"{number}","creationTimestamp":"2026-11-20T08:00:00Z","labels":{{"app":"checkout-backend","pod-template-hash":"7d9f8c6b5"}},"ownerReferences":{owners},"managedFields":[{fields}]}},"spec":{{"volumes":[{{"name":"kube-api-access-x7","projected":{{"sources":[{{"serviceAccountToken":{{"expirationSeconds":3607,"path":"token"}}}},{{"configMap":{{"name":"kube-root-ca.crt","items":[{{"key":"ca.crt","path":"ca.crt"}}]}}}}],"defaultMode":420}}}}],"containers":[{{"name":"app","image":"registry.example/team/checkout-backend:1.4.2","ports":[{{"containerPort":8080,"protocol":"TCP"}}],"env":[{environment}],"resources":{{"limits":{{"cpu":"500m","memory":"512Mi"}},"requests":{{"cpu":"100m","memory":"256Mi"}}}},"volumeMounts":[{{"name":"kube-api-access-x7","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}}],"livenessProbe":{{"httpGet":{{"path":"/healthz","port":8080,"scheme":"HTTP"}},"timeoutSeconds":1,"periodSeconds":10}},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent"}}],"restartPolicy":"Always","terminationGracePeriodSeconds":30,"dnsPolicy":"ClusterFirst","serviceAccountName":"default","nodeName":"{host}","schedulerName":"default-scheduler","tolerations":[{{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}}],"priority":0}},"status":{{"phase":"Running","conditions":[{conditions}],"hostIP":"{underlay}","hostIPs":[{{"ip":"{underlay}"}}],"podIP":"{address}","podIPs":[{{"ip":"{address}"}}],"startTime":"2026-11-20T08:00:00Z","containerStatuses":[{{"name":"app","state":{{"running":{{"startedAt":"2026-11-20T08:00:02Z"}}}},"lastState":{{}},"ready":true,"restartCount":0,"image":"registry.example/team/checkout-backend:1.4.2","imageID":"sha256:{number:064x}","containerID":"containerd://{number:064x}","started":true}}],"qosClass":"Burstable"}}}}"#
    )
}

/// kube-controller-manager, which allocates from a range that the last Node's CIDR is not in.
pub(in crate::bench) fn manager() -> String {
    let host = name(0);
    format!(
        r#"{{"metadata":{{"name":"kube-controller-manager-{host}","namespace":"kube-system","uid":"{}","resourceVersion":"1","creationTimestamp":"2026-11-01T08:00:00Z","labels":{{"component":"kube-controller-manager","tier":"control-plane"}}}},"spec":{{"hostNetwork":true,"nodeName":"{host}","containers":[{{"name":"kube-controller-manager","image":"registry.k8s.io/kube-controller-manager:v1.36.3","command":["kube-controller-manager","--allocate-node-cidrs=true","--cluster-cidr=10.0.0.0/10","--service-cluster-ip-range=10.96.0.0/12","--node-cidr-mask-size=24"]}}]}},"status":{{"phase":"Running","containerStatuses":[{{"name":"kube-controller-manager","ready":true,"restartCount":0,"state":{{"running":{{"startedAt":"2026-11-01T08:00:02Z"}}}}}}]}}}}"#,
        uid(3, 1)
    )
}
