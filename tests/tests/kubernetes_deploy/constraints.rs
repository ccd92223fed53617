//! OpenShift's rules for pods, as its admission applies them: what the running pods ask for is within what their
//! SecurityContextConstraints allow. Rules and meaning: openshift/api, security/v1/types.go.

use std::collections::BTreeSet;

use cidrift_lab::kubernetes::deployed::NAMESPACE;
use serde_json::Value;

use crate::stage::Stage;

fn object(stage: &Stage, words: &[&str]) -> Value {
    let all = [words, &["-o=json"]].concat();
    serde_json::from_str(&stage.kubectl(&all)).unwrap()
}

fn words(list: &Value) -> BTreeSet<&str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// Everything that the pods ask for is allowed.
pub(crate) fn fit(stage: &Stage) {
    let pods = object(stage, &["-n", NAMESPACE, "get", "pods"]);
    let pods = pods["items"].as_array().unwrap();
    assert_eq!(pods.len(), 4);
    for pod in pods {
        let name = pod["metadata"]["annotations"]["openshift.io/required-scc"].as_str();
        let name = name.unwrap_or_else(|| panic!("no constraints are asked for: {pod:#}"));
        let constraints = object(stage, &["get", "securitycontextconstraints", name]);
        let account = pod["spec"]["serviceAccountName"].as_str().unwrap();
        let user = format!("system:serviceaccount:{NAMESPACE}:{account}");
        assert!(
            words(&constraints["users"]).contains(user.as_str()),
            "{name} is not for {user}"
        );
        assert_eq!(refused(&constraints, &pod["spec"]), None, "{name}: {pod:#}");
    }
}

/// What of a pod is not allowed.
fn refused(constraints: &Value, spec: &Value) -> Option<String> {
    for (flag, field) in [
        ("allowHostNetwork", "hostNetwork"),
        ("allowHostPID", "hostPID"),
        ("allowHostIPC", "hostIPC"),
    ] {
        if spec[field] == true && constraints[flag] != true {
            return Some(field.to_owned());
        }
    }
    let allowed = words(&constraints["volumes"]);
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        let mut kinds = volume.as_object().into_iter().flat_map(|fields| fields.keys());
        let kind = kinds.find(|key| *key != "name").map_or("emptyDir", String::as_str);
        if !allowed.contains(kind) {
            return Some(format!("a volume of {kind}"));
        }
        if kind == "hostPath" && constraints["allowHostDirVolumePlugin"] != true {
            return Some("a directory of the host".to_owned());
        }
    }
    spec["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .find_map(|container| refused_container(constraints, spec, container))
}

fn refused_container(constraints: &Value, spec: &Value, container: &Value) -> Option<String> {
    let own = &container["securityContext"];
    let either = |field: &str| match &own[field] {
        Value::Null => spec["securityContext"][field].clone(),
        value => value.clone(),
    };
    let ports = container["ports"].as_array().into_iter().flatten();
    if ports.into_iter().any(|port| !port["hostPort"].is_null()) && constraints["allowHostPorts"] != true {
        return Some("a port of the host".to_owned());
    }
    if own["privileged"] == true || own["allowPrivilegeEscalation"] != false {
        return Some("privileges".to_owned());
    }
    let added = words(&own["capabilities"]["add"]);
    if !added.is_subset(&words(&constraints["allowedCapabilities"])) {
        return Some(format!("capabilities {added:?}"));
    }
    if !words(&own["capabilities"]["drop"]).is_superset(&words(&constraints["requiredDropCapabilities"])) {
        return Some("capabilities that are not dropped".to_owned());
    }
    if constraints["readOnlyRootFilesystem"] == true && own["readOnlyRootFilesystem"] != true {
        return Some("a root file system that can be written".to_owned());
    }
    let user = either("runAsUser");
    let root = user == 0 || (user.is_null() && either("runAsNonRoot") != true);
    if constraints["runAsUser"]["type"] == "MustRunAsNonRoot" && root {
        return Some("root".to_owned());
    }
    if constraints["seLinuxContext"]["type"] == "MustRunAs" && !either("seLinuxOptions").is_null() {
        return Some("an SELinux context of its own".to_owned());
    }
    // SecurityContextConstraints have the old names of annotations.
    if either("seccompProfile")["type"] != "RuntimeDefault"
        || !words(&constraints["seccompProfiles"]).contains("runtime/default")
    {
        return Some("its seccomp profile".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_allowed_is_refused() {
        let constraints = json!({
            "allowHostNetwork": true, "volumes": ["configMap"], "allowedCapabilities": [], "allowHostPorts": true,
            "seccompProfiles": ["runtime/default"], "runAsUser": {"type": "MustRunAsNonRoot"},
        });
        let context =
            json!({"allowPrivilegeEscalation": false, "seccompProfile": {"type": "RuntimeDefault"}, "runAsUser": 1});
        let pod = json!({"hostNetwork": true, "volumes": [{"name": "a", "configMap": {}}],
            "containers": [{"securityContext": context}]});
        assert_eq!(refused(&constraints, &pod), None);
        for (at, value) in [
            ("/hostNetwork", json!(true)),
            ("/volumes/0", json!({"name": "a", "hostPath": {}})),
            ("/containers/0/securityContext/runAsUser", json!(0)),
            ("/containers/0/securityContext/allowPrivilegeEscalation", json!(true)),
            (
                "/containers/0/securityContext/seccompProfile",
                json!({"type": "Unconfined"}),
            ),
        ] {
            let (mut pod, mut constraints) = (pod.clone(), constraints.clone());
            *pod.pointer_mut(at).unwrap() = value;
            constraints["allowHostNetwork"] = json!(at != "/hostNetwork");
            assert!(refused(&constraints, &pod).is_some(), "{at}");
        }
    }
}
