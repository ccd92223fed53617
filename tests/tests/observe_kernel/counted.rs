//! Counters of a real kernel.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use cidrift_agent::observe::traffic::TrafficReader;
use cidrift_agent::view::traffic::Traffic;
use cidrift_lab::require::{Need, have};
use jiff::Timestamp;

use crate::host::{Host, inside};

/// The next reading: the last one stands for six looks.
fn read(host: &Host, reader: &mut TrafficReader) -> Traffic {
    inside(&host.netns, || {
        let mut last = reader.look(Timestamp::now());
        let at = last.at;
        for _ in 0..6 {
            last = reader.look(Timestamp::now());
            if last.at != at {
                break;
            }
        }
        last.get().cloned().unwrap()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_counts_what_passes_and_the_namespace_what_has_no_route() {
    if !have(Need::Netns) {
        return;
    }
    let host = Host::new("counted").await;
    let bridge = host.bridge("cni0").await;
    host.veth("veth1", "eth9").await;
    host.add_address(bridge, "10.244.1.1/24").await;
    let mut reader = TrafficReader::new();
    let before = read(&host, &mut reader);
    assert!(before.now.devices.contains_key("lo"));
    let deadline = Instant::now() + Duration::from_secs(10);
    let grown = loop {
        inside(&host.netns, || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            // The host asks all of the bridge who that is.
            socket.send_to(b"ping", "10.244.1.9:9").unwrap();
            // Nothing leads there.
            assert!(socket.send_to(b"ping", "198.51.100.1:9").is_err());
        });
        let after = read(&host, &mut reader).now;
        let sent = |device: &str| after.devices[device].since(before.now.devices[device]).sent;
        let counted = (sent("cni0"), sent("veth1"), after.ip);
        // A port forwards once the bridge has heard of its carrier.
        if counted.1.packets > 0 {
            break counted;
        }
        assert!(Instant::now() < deadline, "{counted:?}");
        std::thread::sleep(Duration::from_millis(100));
    };
    let (bridge, port, ip) = grown;
    assert!(
        bridge.packets > 0 && bridge.bytes >= 28 && port.bytes >= 28,
        "{bridge:?} {port:?}"
    );
    assert!(ip.get("IpOutNoRoutes") > before.now.ip.get("IpOutNoRoutes"), "{ip:?}");
}
