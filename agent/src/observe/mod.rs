//! Reads the host. The only room that knows netlink, procfs and file formats.

pub mod addresses;
pub mod cni;
pub mod cri;
pub mod host;
pub mod logs;
pub mod metrics;
pub mod netlink;
pub mod network_manager;
pub mod node;
pub mod plugins;
pub mod process;
pub mod root;
pub mod setting;
pub mod traffic;
