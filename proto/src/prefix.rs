//! Addresses and prefixes on the wire.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Malformed, v1};

/// An address as 4 or 16 bytes.
pub fn address_to_wire(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// An address from 4 or 16 bytes; anything else is [`Malformed::Address`].
pub fn address_from_wire(bytes: &[u8], field: &'static str) -> Result<IpAddr, Malformed> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(bytes)
        .map(IpAddr::from)
        .map_err(|_| Malformed::Address {
            field,
            length: bytes.len(),
        })
}

/// A prefix; host bits are cut off.
pub fn prefix_to_wire(prefix: IpNet) -> v1::Prefix {
    v1::Prefix {
        address: address_to_wire(prefix.network()),
        length: u32::from(prefix.prefix_len()),
    }
}

/// A prefix from the wire: length within its family, no host bits.
pub fn prefix_from_wire(prefix: &v1::Prefix, field: &'static str) -> Result<IpNet, Malformed> {
    let net = interface_from_wire(&prefix.address, prefix.length, field)?;
    if net.network() != net.addr() {
        return Err(Malformed::HostBits {
            field,
            prefix: net.to_string(),
        });
    }
    Ok(net)
}

/// An interface address with its prefix length; host bits are kept.
pub fn interface_from_wire(address: &[u8], length: u32, field: &'static str) -> Result<IpNet, Malformed> {
    let address = address_from_wire(address, field)?;
    let max = if address.is_ipv4() { 32 } else { 128 };
    let too_long = Malformed::PrefixLength { field, length, max };
    let short = u8::try_from(length).map_err(|_| too_long.clone())?;
    IpNet::new(address, short).map_err(|_| too_long)
}
