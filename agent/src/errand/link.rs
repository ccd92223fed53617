//! `remove-link`: a network device of this network namespace.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use futures::TryStreamExt;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use nix::errno::Errno;
use rtnetlink::Handle;

use super::args::RemoveLink;
use super::error::Error;

/// The kinds that CNIs make and that can be made again.
const REMOVABLE: [InfoKind; 4] = [InfoKind::Bridge, InfoKind::Vxlan, InfoKind::Dummy, InfoKind::Veth];

/// Removes it.
pub(super) async fn remove(args: &RemoveLink) -> Result<String, Error> {
    let name = &args.name;
    let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::io("netlink cannot be opened"))?;
    tokio::spawn(connection);
    let Some(link) = find(&handle, name).await? else {
        return Ok(format!("there is no device {name} any more"));
    };
    let kind = removable(name, &link)?;
    if !args.address.is_empty() {
        let has = addresses(&handle, link.header.index, name).await?;
        if !args.address.iter().any(|wanted| has.contains(&wanted.addr())) {
            let wanted = listed(args.address.iter());
            // Every device that is up has one of the link alone, whoever configured it.
            let told = has
                .iter()
                .filter(|address| !matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()));
            let has = listed(told);
            let has = if has.is_empty() { "none" } else { &has };
            return Ok(format!(
                "{name} does not have {wanted} (its addresses: {has}): it was made or configured anew meanwhile, and is left alone"
            ));
        }
    }
    if kind == InfoKind::Bridge && !args.with_ports {
        let ports = ports(&handle, link.header.index).await?;
        if !ports.is_empty() {
            return Err(Error::Refused(format!(
                "{name} is a bridge with ports, which pods may hang on: {}; with --with-ports it is removed all the same",
                listed(ports.iter())
            )));
        }
    }
    match handle.link().del(link.header.index).execute().await {
        Ok(()) => Ok(format!("removed {name}, a {kind}")),
        Err(error) if says(&error, Errno::ENODEV) => Ok(format!("there is no device {name} any more")),
        Err(error) => Err(Error::kernel(format!("{name} cannot be removed"))(error)),
    }
}

/// The device of this name. One that has it as another of its names (`altname`) is none.
async fn find(handle: &Handle, name: &str) -> Result<Option<LinkMessage>, Error> {
    let mut found = Box::pin(handle.link().get().match_name(name).execute());
    match found.try_next().await {
        Ok(link) => Ok(link.filter(|link| named(link) == Some(name))),
        Err(error) if says(&error, Errno::ENODEV) => Ok(None),
        Err(error) => Err(Error::kernel(format!("{name} cannot be looked at"))(error)),
    }
}

/// The kind of a device that may be removed.
fn removable(name: &str, link: &LinkMessage) -> Result<InfoKind, Error> {
    let what = match kind(link) {
        Some(kind) if REMOVABLE.contains(kind) => return Ok(kind.clone()),
        Some(kind) => format!("a {kind}"),
        None => "no virtual device".to_owned(),
    };
    let may = listed(REMOVABLE.iter());
    Err(Error::Refused(format!(
        "{name} is {what}: only these are removed: {may}"
    )))
}

fn named(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

/// Devices of the machine and the loopback have none.
fn kind(link: &LinkMessage) -> Option<&InfoKind> {
    let infos = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    })?;
    infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    })
}

/// The device's own addresses.
async fn addresses(handle: &Handle, index: u32, name: &str) -> Result<BTreeSet<IpAddr>, Error> {
    let all = handle.address().get().set_link_index_filter(index).execute();
    let all: Vec<AddressMessage> = all
        .try_collect()
        .await
        .map_err(Error::kernel(format!("{name}'s addresses cannot be read")))?;
    let all = all.iter().filter(|message| message.header.index == index);
    Ok(all.filter_map(own).collect())
}

/// On a point-to-point device IFA_ADDRESS is the peer's.
fn own(message: &AddressMessage) -> Option<IpAddr> {
    let of = |local: bool| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) if local => Some(*address),
            AddressAttribute::Address(address) if !local => Some(*address),
            _ => None,
        })
    };
    of(true).or_else(|| of(false))
}

/// What hangs on the bridge.
async fn ports(handle: &Handle, bridge: u32) -> Result<Vec<String>, Error> {
    let all = handle.link().get().execute();
    let all: Vec<LinkMessage> = all
        .try_collect()
        .await
        .map_err(Error::kernel("devices cannot be listed"))?;
    let hangs = |link: &&LinkMessage| link.attributes.contains(&LinkAttribute::Controller(bridge));
    let ports = all.iter().filter(hangs);
    Ok(ports.map(|link| named(link).unwrap_or("?").to_owned()).collect())
}

pub(super) fn says(error: &rtnetlink::Error, errno: Errno) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message)
        if io::Error::from(message.clone()).raw_os_error() == Some(errno as i32))
}

fn listed<T: ToString>(all: impl Iterator<Item = T>) -> String {
    all.map(|one| one.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: Option<InfoKind>) -> Result<InfoKind, String> {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName("x0".to_owned()));
        let info = kind.map(|kind| LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]));
        link.attributes.extend(info);
        removable("x0", &link).map_err(|error| error.to_string())
    }

    #[test]
    fn only_kinds_that_cnis_make_and_make_again_are_removed() {
        for kind in REMOVABLE {
            assert_eq!(of(Some(kind.clone())), Ok(kind));
        }
        for kind in [
            InfoKind::Vlan,
            InfoKind::Bond,
            InfoKind::Tun,
            InfoKind::Wireguard,
            InfoKind::Other("new".to_owned()),
        ] {
            let told = of(Some(kind.clone())).unwrap_err();
            assert!(told.starts_with(&format!("x0 is a {kind}: only these")), "{told}");
        }
        let told = of(None).unwrap_err();
        assert_eq!(
            told,
            "x0 is no virtual device: only these are removed: bridge, vxlan, dummy, veth"
        );
    }

    #[test]
    fn of_a_point_to_point_device_the_peers_address_is_not_its_own() {
        let [own_address, peer] = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse().unwrap());
        let mut message = AddressMessage::default();
        assert_eq!(own(&message), None);
        message.attributes.push(AddressAttribute::Address(peer));
        assert_eq!(own(&message), Some(peer));
        message.attributes.push(AddressAttribute::Local(own_address));
        assert_eq!(own(&message), Some(own_address));
    }
}
