//! What a cluster is to be like.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;

/// How pods get their addresses and reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cni {
    /// Nobody writes a CNI configuration: nodes stay NotReady.
    None,
    /// containerd's own `conf_template`, filled with the pod CIDR that kubelet hands it once.
    Template,
    /// A conflist (bridge, host-local) with the Node's CIDR and a route to
    /// each peer, both written by the bench.
    Bridge,
    /// The real flanneld and its conflist, with this backend.
    Flannel(Backend),
}

/// flanneld's backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// VXLAN.
    Vxlan,
    /// Routes through the peers' own addresses.
    HostGw,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vxlan => "vxlan",
            Self::HostGw => "host-gw",
        })
    }
}

impl fmt::Display for Cni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Template => f.write_str("template"),
            Self::Bridge => f.write_str("bridge"),
            Self::Flannel(backend) => write!(f, "flannel-{backend}"),
        }
    }
}

impl FromStr for Cni {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "template" => Ok(Self::Template),
            "bridge" => Ok(Self::Bridge),
            "flannel-vxlan" => Ok(Self::Flannel(Backend::Vxlan)),
            "flannel-host-gw" => Ok(Self::Flannel(Backend::HostGw)),
            other => Err(format!(
                "{other:?} is no CNI of the bench: none, template, bridge, flannel-vxlan, flannel-host-gw"
            )),
        }
    }
}

/// Which containerd the nodes run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Containerd {
    /// Debian's, 1.6.
    #[default]
    Debian,
    /// 2.4.2, built from `tests/kubernetes/containerd`.
    V2,
}

/// What to start. [`Scenario::default`] is two nodes of 10.244.0.0/16 with the bridge CNI.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// How many nodes, named n1, n2 and so on; 0 to 40.
    pub nodes: u8,
    /// How pods get their addresses.
    pub cni: Cni,
    /// `--cluster-cidr`, one a family. In the order that the flag gets.
    pub cluster_cidr: Vec<IpNet>,
    /// `--service-cluster-ip-range` of API server and controller manager.
    pub service_cidr: Vec<IpNet>,
    /// `--allocate-node-cidrs`.
    pub allocate_node_cidrs: bool,
    /// More flags for kube-controller-manager; a later one wins.
    pub kcm_flags: Vec<String>,
    /// More flags for kube-apiserver.
    pub apiserver_flags: Vec<String>,
    /// Which containerd.
    pub containerd: Containerd,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            nodes: 2,
            cni: Cni::Bridge,
            cluster_cidr: nets(&["10.244.0.0/16"]),
            service_cidr: nets(&["10.96.0.0/12"]),
            allocate_node_cidrs: true,
            kcm_flags: Vec::new(),
            apiserver_flags: Vec::new(),
            containerd: Containerd::default(),
        }
    }
}

impl Scenario {
    /// The default with IPv6 beside IPv4: fd00:244::/48 in /64 for pods, fd00:96::/112 for services.
    pub fn dual_stack() -> Self {
        Self {
            cluster_cidr: nets(&["10.244.0.0/16", "fd00:244::/48"]),
            service_cidr: nets(&["10.96.0.0/12", "fd00:96::/112"]),
            ..Self::default()
        }
    }

    /// Whether it has both families, by its services.
    pub fn has_ipv6(&self) -> bool {
        self.service_cidr
            .iter()
            .chain(&self.cluster_cidr)
            .any(|net| net.addr().is_ipv6())
    }

    /// The flags of kube-controller-manager that follow from it.
    pub fn kcm(&self) -> Vec<String> {
        let mut flags = vec![
            format!("--allocate-node-cidrs={}", self.allocate_node_cidrs),
            format!("--service-cluster-ip-range={}", list(&self.service_cidr)),
        ];
        if !self.cluster_cidr.is_empty() {
            flags.push(format!("--cluster-cidr={}", list(&self.cluster_cidr)));
        }
        flags.extend(self.kcm_flags.iter().cloned());
        flags
    }
}

/// As Kubernetes' flags take several: with commas.
pub fn list(nets: &[IpNet]) -> String {
    nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts
        .iter()
        .map(|text| text.parse().expect("written here as a prefix"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cni_is_read_back_from_its_name() {
        let all = [
            Cni::None,
            Cni::Template,
            Cni::Bridge,
            Cni::Flannel(Backend::Vxlan),
            Cni::Flannel(Backend::HostGw),
        ];
        for cni in all {
            assert_eq!(cni.to_string().parse(), Ok(cni));
        }
        assert!("calico".parse::<Cni>().is_err());
    }

    #[test]
    fn the_scenario_s_own_flags_come_last_and_win() {
        let scenario = Scenario {
            kcm_flags: vec!["--cluster-cidr=10.0.0.0/8".to_owned()],
            ..Scenario::default()
        };
        assert_eq!(
            scenario.kcm().last().map(String::as_str),
            Some("--cluster-cidr=10.0.0.0/8")
        );
    }
}
