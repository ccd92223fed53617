//! Calico's IPPools and BlockAffinities, of crd.projectcalico.org/v1 or projectcalico.org/v3.

use ipnet::IpNet;
use serde_json::Value;

use super::text::{at, clip};
use crate::cluster::objects::{Block, IpPool};

/// An IPPool.
pub fn pool(object: &Value) -> Result<IpPool, String> {
    let name = at(object, "/metadata/name").ok_or("it has no metadata.name")?;
    let cidr = cidr(object)?;
    let most = cidr.max_prefix_len();
    let block_size = match object.pointer("/spec/blockSize") {
        // Calico's defaults: 64 addresses a block.
        None | Some(Value::Null) => most.saturating_sub(6),
        Some(value) => value
            .as_u64()
            .and_then(|size| u8::try_from(size).ok())
            .filter(|size| *size <= most)
            .ok_or_else(|| format!("spec.blockSize is {value}"))?,
    };
    Ok(IpPool {
        name: name.to_owned(),
        cidr,
        block_size,
        disabled: truth(object.pointer("/spec/disabled")),
        node_selector: clip(at(object, "/spec/nodeSelector").unwrap_or("all()"), 1024),
    })
}

/// A BlockAffinity.
pub fn block(object: &Value) -> Result<Block, String> {
    Ok(Block {
        node: at(object, "/spec/node").ok_or("it has no spec.node")?.to_owned(),
        cidr: cidr(object)?,
        state: clip(at(object, "/spec/state").unwrap_or_default(), 64),
        deleted: truth(object.pointer("/spec/deleted")),
    })
}

fn cidr(object: &Value) -> Result<IpNet, String> {
    let text = at(object, "/spec/cidr").ok_or("it has no spec.cidr")?;
    let net: IpNet = text
        .parse()
        .map_err(|_| format!("spec.cidr is {:?}, which is no prefix", clip(text, 64)))?;
    Ok(net.trunc())
}

/// v1 writes `deleted` as a text, v3 as a truth value.
fn truth(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(truth)) => *truth,
        Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
        _ => false,
    }
}
