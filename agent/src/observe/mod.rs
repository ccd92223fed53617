//! Reads the host. The only room that knows netlink, procfs and file formats.

pub mod cni;
pub mod netlink;
pub mod node;
pub mod root;
