//! What reaches the programs inside k3s (pkg/daemons of k3s).

use super::flags;
use super::rancher::Values;
use super::told::Told;
use crate::view::host::{Program, Setting};

/// Where k3s has its containerd listen, unless it is told of another runtime.
const RUNTIME: &str = "unix:///run/k3s/containerd/containerd.sock";
const CRI_DOCKERD: &str = "unix:///run/k3s/cri-dockerd/cri-dockerd.sock";

/// The programs inside k3s with what reaches them.
pub(super) fn embedded(own: &Told, values: &Values, server: bool) -> Vec<(Program, Told)> {
    let mut all = Vec::new();
    if server && !own.is_on("disable-controller-manager") {
        let mut told = Told::default();
        told.set("allocate-node-cidrs", "true", "k3s");
        pass(&mut told, own, "cluster-cidr", "cluster-cidr");
        pass(&mut told, own, "service-cidr", "service-cluster-ip-range");
        carried(
            &mut told,
            values,
            Program::ControllerManager,
            "kube-controller-manager-arg",
        );
        all.push((Program::ControllerManager, told));
    }
    if own.is_on("disable-agent") {
        return all;
    }
    let mut kubelet = Told::default();
    match own.settings.get("container-runtime-endpoint") {
        Some(setting) => told_endpoint(&mut kubelet, setting),
        None if own.is_on("docker") => kubelet.set("container-runtime-endpoint", CRI_DOCKERD, "default of k3s"),
        None => kubelet.set("container-runtime-endpoint", RUNTIME, "default of k3s"),
    }
    let data = own.get("data-dir").unwrap_or("/var/lib/rancher/k3s");
    kubelet.set(
        "config-dir",
        format!("{data}/agent/etc/kubelet.conf.d"),
        "default of k3s",
    );
    pass(&mut kubelet, own, "node-ip", "node-ip");
    pass(&mut kubelet, own, "node-name", "hostname-override");
    carried(&mut kubelet, values, Program::Kubelet, "kubelet-arg");
    all.push((Program::Kubelet, kubelet));
    if !own.is_on("disable-kube-proxy") {
        let mut proxy = Told::default();
        // An agent is told the range by its server, and writes it down nowhere.
        if server {
            pass(&mut proxy, own, "cluster-cidr", "cluster-cidr");
        }
        proxy.set("proxy-mode", "iptables", "k3s");
        carried(&mut proxy, values, Program::Proxy, "kube-proxy-arg");
        all.push((Program::Proxy, proxy));
    }
    if own.get("flannel-backend") != Some("none") {
        let mut flannel = Told::default();
        for name in ["flannel-backend", "flannel-conf", "flannel-iface", "flannel-cni-conf"] {
            pass(&mut flannel, own, name, name);
        }
        all.push((Program::Flanneld, flannel));
    }
    all
}

fn told_endpoint(kubelet: &mut Told, setting: &Setting) {
    let value = match setting.value.contains("://") {
        true => setting.value.clone(),
        false => format!("unix://{}", setting.value),
    };
    kubelet.set("container-runtime-endpoint", value, &setting.source);
}

fn pass(to: &mut Told, own: &Told, name: &str, as_name: &str) {
    if let Some(Setting { value, source }) = own.settings.get(name) {
        to.set(as_name, value.as_str(), source);
    }
}

/// What a list of "flag=value" hands on; these go before what k3s sets itself.
fn carried(told: &mut Told, values: &Values, program: Program, name: &str) {
    let Some((all, source)) = values.get(name) else { return };
    let words: Vec<String> = all
        .iter()
        .map(|word| format!("--{}", word.trim_start_matches('-')))
        .collect();
    told.flags(&flags::parse(program, &words), source);
}
