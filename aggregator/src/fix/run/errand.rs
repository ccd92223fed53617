//! Errands: what must be done on a host is done there by a pod of a moment, pinned to the node, with the least rights for it.
//! Its program, `cidrift-errand`, lies in the agent's image.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::halt::{Halt, call, code};
use super::{Eyes, LOOK, MARK, Runner, on_host, shell};
use crate::fix::plan::{Hop, NodePlan};

/// The agents' DaemonSet: its image has the program.
pub(super) const AGENTS: &str = "cidrift-agent";

/// The program in that image.
const PROGRAM: &str = "/usr/bin/cidrift-errand";

/// Words of the errand where a file is there that it was to have rendered, for other CIDRs.
pub(super) const NEVER_OVER: &str = "it is never rendered over";

/// What all pods of a fix are labelled with.
pub(super) const LABEL: &str = "cidrift-errand";

/// Rights and places that an errand needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Directories of the host, and whether they are written to.
    mounts: Vec<(String, bool)>,
    /// Capabilities.
    capabilities: &'static [&'static str],
}

impl<E: Eyes> Runner<'_, E> {
    pub(super) async fn remove_file(&self, path: &str, containing: &str) -> Result<(), Halt> {
        let mut arguments = vec!["remove-file".to_owned(), "--host-root=/host".to_owned()];
        if !containing.is_empty() {
            arguments.push(format!("--containing={containing}"));
        }
        arguments.push(path.to_owned());
        let needs = Needs {
            mounts: vec![(directory(path), true)],
            capabilities: &[],
        };
        self.errand(&arguments, &needs).await
    }

    pub(super) async fn remove_link(&self, name: &str, addresses: &[IpNet]) -> Result<(), Halt> {
        // Pods of DaemonSets may still hang on it, which are made anew afterwards.
        let mut arguments = vec!["remove-link".to_owned(), "--with-ports".to_owned()];
        arguments.extend(addresses.iter().map(|net| format!("--address={net}")));
        arguments.push(name.to_owned());
        let needs = Needs {
            mounts: Vec::new(),
            capabilities: &["NET_ADMIN"],
        };
        self.errand(&arguments, &needs).await
    }

    pub(super) async fn remove_leases(&self, directory: &str, leases: &BTreeMap<IpAddr, String>) -> Result<(), Halt> {
        let mut arguments = vec![
            "remove-leases".to_owned(),
            "--host-root=/host".to_owned(),
            format!("--directory={directory}"),
        ];
        arguments.extend(leases.iter().map(|(address, sandbox)| format!("{address}={sandbox}")));
        let needs = Needs {
            mounts: vec![(directory.to_owned(), true)],
            capabilities: &[],
        };
        self.errand(&arguments, &needs).await
    }

    pub(super) async fn remove_route(&self, prefix: IpNet, by: Hop) -> Result<(), Halt> {
        let which = match by {
            Hop::Via(via) => format!("--via={via}"),
            Hop::Type(how) => format!("--type={how}"),
        };
        let arguments = ["remove-route".to_owned(), which, prefix.to_string()];
        let needs = Needs {
            mounts: Vec::new(),
            capabilities: &["NET_ADMIN"],
        };
        self.errand(&arguments, &needs).await
    }

    /// As a kubelet's start does it, or by one.
    pub(super) async fn render(&self, path: &str, socket: &str) -> Result<(), Halt> {
        let plan = self.plan()?;
        if let Some(template) = &self.settings.restart {
            shell::run(template, &plan.node, &plan.to, self.settings.patience).await?;
            return self.adopt().await;
        }
        self.render_for(path, socket, &plan.to).await
    }

    /// Has the runtime told these CIDRs until it has rendered them.
    pub(super) async fn render_for(&self, path: &str, socket: &str, cidrs: &[IpNet]) -> Result<(), Halt> {
        let mut arguments = vec![
            "render".to_owned(),
            "--host-root=/host".to_owned(),
            format!("--endpoint=unix://{socket}"),
            format!("--path={path}"),
        ];
        arguments.extend(cidrs.iter().map(|net| format!("--pod-cidr={net}")));
        let needs = Needs {
            mounts: vec![(directory(path), false), (directory(socket), false)],
            capabilities: &[],
        };
        self.errand(&arguments, &needs).await
    }

    /// Runs one, and waits for its end.
    async fn errand(&self, arguments: &[String], needs: &Needs) -> Result<(), Halt> {
        let node = self.plan()?.node.clone();
        // The same errand of the same fix has the same name: it is taken up again, and not run a second time beside itself.
        let mut hasher = DefaultHasher::new();
        (&self.record.id, &node, arguments).hash(&mut hasher);
        let name = format!("{LABEL}-{:016x}", hasher.finish());
        let pod = self.pod(&name, &node, arguments, Some(needs)).await?;
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.settings.namespace);
        self.gone(&api, &name).await?;
        self.create(&api, &pod).await?;
        let ended = self.ended(&api, &name, &node).await;
        // One that failed is of no use for another try either.
        self.remove(&api, &name).await?;
        ended
    }

    /// Waits for the end of one that was deleted: it is there until its kubelet has seen that.
    async fn gone(&self, api: &Api<Pod>, name: &str) -> Result<(), Halt> {
        let began = Instant::now();
        loop {
            let pod = call(async || api.get_opt(name).await).await;
            let pod = pod.map_err(|error| Halt::api(&format!("get pod {name}"), &error))?;
            if pod.is_none_or(|pod| pod.metadata.deletion_timestamp.is_none()) {
                return Ok(());
            }
            if began.elapsed() >= self.settings.patience {
                return Err(Halt::Stop(format!("pod {name} is deleted and does not go")));
            }
            sleep(LOOK).await;
        }
    }

    /// Whether the pods of a plan would be let into cidrift's namespace: what refuses them (PodSecurity, a webhook, a missing
    /// right) does so before anything was taken away.
    pub(super) async fn admitted(&self, plan: &NodePlan) -> Result<(), Halt> {
        let widest = Needs {
            mounts: vec![("/etc/cni/net.d".to_owned(), true)],
            capabilities: &["NET_ADMIN"],
        };
        let host = plan.steps.iter().any(|step| on_host(&step.does));
        let pods = [host.then_some(Some(&widest)), plan.probes().then_some(None)];
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.settings.namespace);
        for needs in pods.into_iter().flatten() {
            let name = format!("{LABEL}-try-{}", self.record.id);
            let pod = self.pod(&name, &plan.node, &["hold".to_owned()], needs).await?;
            let dry = PostParams {
                dry_run: true,
                ..PostParams::default()
            };
            match call(async || api.create(&dry, &pod).await).await {
                Ok(_) => {}
                // A webhook that knows no trial: it says so with 400.
                Err(error) if matches!(code(&error), Some(400 | 409)) => {}
                Err(error) => return Err(Halt::api("create a pod for an errand", &error)),
            }
        }
        Ok(())
    }

    async fn ended(&self, api: &Api<Pod>, name: &str, node: &str) -> Result<(), Halt> {
        let began = Instant::now();
        let mut last = None;
        loop {
            let pod = call(async || api.get_opt(name).await).await;
            let pod = pod.map_err(|error| Halt::api(&format!("get pod {name}"), &error))?;
            let pod = pod.ok_or_else(|| Halt::Stop(format!("somebody deleted pod {name}, which ran on {node}")))?;
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            match phase {
                Some("Succeeded") => return Ok(()),
                Some("Failed") => {
                    return Err(Halt::Stop(format!("on {node}: {}", said(&pod))));
                }
                _ => {}
            }
            self.told_why(&pod, &mut last);
            if began.elapsed() >= self.settings.patience {
                let why = said(&pod);
                return Err(Halt::Stop(format!(
                    "pod {name} does not come to an end on {node}: {why}"
                )));
            }
            sleep(LOOK).await;
        }
    }

    /// Tells what a pod waits for, once each.
    pub(super) fn told_why(&self, pod: &Pod, last: &mut Option<String>) {
        let why = waits(pod);
        if why.is_some() && why != *last {
            let text = why.clone().unwrap_or_default();
            self.tell(format!("waits for pod {}: {text}", pod.name_any()));
        }
        *last = why;
    }

    /// Creates a pod, unless it is there already.
    pub(super) async fn create(&self, api: &Api<Pod>, pod: &Pod) -> Result<(), Halt> {
        match call(async || api.create(&PostParams::default(), pod).await).await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some(409) => Ok(()),
            Err(error) => Err(Halt::api("create a pod for an errand", &error)),
        }
    }

    /// Deletes a pod of this fix at once.
    pub(super) async fn remove(&self, api: &Api<Pod>, name: &str) -> Result<(), Halt> {
        let parameters = DeleteParams::default().grace_period(0);
        match call(async || api.delete(name, &parameters).await).await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == Some(404) => Ok(()),
            Err(error) => Err(Halt::api(&format!("delete pod {name}"), &error)),
        }
    }

    /// A pod of this fix on a node: an errand in the host's network, or without needs one in the pods'.
    pub(super) async fn pod(
        &self,
        name: &str,
        node: &str,
        arguments: &[String],
        needs: Option<&Needs>,
    ) -> Result<Pod, Halt> {
        let api: Api<DaemonSet> = Api::namespaced(self.client.clone(), &self.settings.namespace);
        let agents = call(async || api.get_opt(AGENTS).await).await;
        let agents = agents.map_err(|error| Halt::api(&format!("get DaemonSet {AGENTS}"), &error))?;
        let template = agents.and_then(|agents| agents.spec?.template.spec);
        let agent = template.as_ref().and_then(|spec| spec.containers.first().cloned());
        let (Some(template), Some(agent)) = (template, agent) else {
            return Err(Halt::Stop(format!(
                "there is no DaemonSet {AGENTS} in namespace {}: its image has what runs on hosts",
                self.settings.namespace
            )));
        };
        let host = needs.is_some();
        let needs = needs.cloned().unwrap_or_default();
        let number = |at: usize| format!("host-{at}");
        let mounts: Vec<Value> = needs
            .mounts
            .iter()
            .enumerate()
            .map(|(at, (path, write))| json!({"name": number(at), "mountPath": format!("/host{path}"), "readOnly": !write}))
            .collect();
        let volumes: Vec<Value> = needs
            .mounts
            .iter()
            .enumerate()
            .map(|(at, (path, _))| json!({"name": number(at), "hostPath": {"path": path, "type": "Directory"}}))
            .collect();
        let mut security = json!({
            "runAsUser": 0, "runAsGroup": 0, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"], "add": needs.capabilities},
        });
        if host {
            // Files and sockets of the host have its labels.
            security["seLinuxOptions"] = json!({"type": "spc_t"});
        }
        let object = json!({
            "metadata": {
                "name": name,
                "labels": {"app.kubernetes.io/name": LABEL},
                "annotations": {MARK: self.record.id},
            },
            "spec": {
                "nodeName": node,
                "hostNetwork": host,
                "dnsPolicy": "Default",
                "restartPolicy": "Never",
                "serviceAccountName": template.service_account_name,
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "imagePullSecrets": template.image_pull_secrets,
                "priorityClassName": template.priority_class_name,
                "terminationGracePeriodSeconds": 1,
                // Whoever made it may be gone.
                "activeDeadlineSeconds": 900,
                "tolerations": [{"operator": "Exists"}],
                "containers": [{
                    "name": "errand",
                    "image": agent.image,
                    "imagePullPolicy": agent.image_pull_policy,
                    "command": [PROGRAM],
                    "args": arguments,
                    "securityContext": security,
                    "volumeMounts": mounts,
                }],
                "volumes": volumes,
            },
        });
        serde_json::from_value(object).map_err(|error| Halt::Stop(format!("cannot describe pod {name}: {error}")))
    }
}

/// The directory that a path of the host lies in.
fn directory(path: &str) -> String {
    let parent = Path::new(path).parent();
    parent
        .map(|parent| parent.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// What keeps a pod's container from starting: an image that is not to be had, say. `None`: nothing is known to.
fn waits(pod: &Pod) -> Option<String> {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref());
    let waiting = statuses?.first()?.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().unwrap_or_default();
    if matches!(reason, "" | "ContainerCreating" | "PodInitializing") {
        return None;
    }
    Some(match &waiting.message {
        Some(message) => format!("{reason}: {}", message.trim()),
        None => reason.to_owned(),
    })
}

/// What is known of why a pod has not done what it should.
pub(super) fn said(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let container = status.container_statuses.unwrap_or_default().into_iter().next();
    let state = container.and_then(|container| container.state).unwrap_or_default();
    let ended = state.terminated.and_then(|ended| ended.message.or(ended.reason));
    let waits = state.waiting.and_then(|waits| waits.message.or(waits.reason));
    let text = ended.or(waits).or(status.message).or(status.reason);
    match text {
        Some(text) => text.trim().to_owned(),
        None => format!(
            "pod {} is {}",
            pod.name_any(),
            status.phase.unwrap_or_else(|| "new".to_owned())
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENDER: &str = include_str!("../../../../agent/src/errand/render.rs");

    #[test]
    fn the_errand_says_of_a_file_that_is_there_what_is_looked_for() {
        assert!(RENDER.contains(NEVER_OVER));
    }
}
