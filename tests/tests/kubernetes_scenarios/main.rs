//! What goes wrong in real clusters, on a real one: etcd, kube-apiserver,
//! kube-controller-manager, kubelets and containerd say it in their own words,
//! cidrift's programs find it, survive kill -9 in the middle, explain it, and
//! see it mended by real means. Any finding besides those that a scenario names
//! is a false alarm and fails it.
// Helpers of tests may unwrap as tests may; clippy knows only the tests themselves.
#![allow(clippy::unwrap_used)]

mod allocator;
mod cilium;
mod duplicate;
mod exhausted;
mod family;
mod flannel;
mod latency;
mod node;
mod proxy;
mod raced;
mod range_changed;
mod reborn;
mod sandboxes;
mod stage;
mod template;
mod unready;
